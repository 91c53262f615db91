"""What the rows of a long run were made by, so that a run goes on only with rows of its own kind."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from eval.indexing import Indexed
from eval.machine import versions
from rag.assemble import Engine
from rag.config import PipelineConfig
from rag.selection_table import SEARCHES


def made_by(engine: Engine, indexed: Indexed, chosen: PipelineConfig) -> dict[str, Any]:
    """Pipeline, collection, models and versions, each with all that can change a result."""
    settings = engine.settings
    status = engine.collection(indexed.name).status()
    said: dict[str, Any] = {
        "pipeline": asdict(chosen),
        "collection": [indexed.name, status.version, status.generation, status.manifest.fingerprint, indexed.encoder],
        "generation": asdict(settings.generation),
        "versions": versions(),
        "models": [],
    }
    if chosen.rerank != "none":
        reranker = settings.reranker(chosen.rerank, chosen.rerank_model)
        said["reranker"] = asdict(reranker)
        said["models"].append(_model(engine, reranker.model) if reranker.reads else reranker.model)
    if chosen.generate == "local":
        said["models"].append(_model(engine, ""))
    if chosen.generate == "remote":
        said["remote"] = [settings.remote.base_url, settings.remote.model, settings.remote.temperature]
    if chosen.select in SEARCHES:
        said["selection"] = asdict(settings.selection)
    if said["models"]:
        said["model"], said["cache"] = asdict(settings.model), settings.cache.mode
    return said


def _model(engine: Engine, name: str) -> str:
    return engine.language_model(name).fingerprint
