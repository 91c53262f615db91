"""What the rows of a long run were made by, so that a run goes on only with rows of its own kind."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from eval.beir import Dataset
from eval.indexing import Indexed
from eval.machine import commit, versions
from rag.assemble import Engine
from rag.config import EncoderConfig, IndexConfig, PipelineConfig
from rag.selection_table import SEARCHES

RESOURCES = {"java_heap_mb", "chunk_cache_mb", "verify", "threads", "batch_size"}
"""Settings of [index] and [encoder] that change no result: a run that ran out of memory may go on with others."""


def code() -> dict[str, Any]:
    """Which code makes the rows: commit, where it is known, and the versions of what it depends on."""
    return {"commit": commit(), "versions": versions()}


def asked_of(dataset: Dataset) -> list[str]:
    """Which queries they are of; each row knows the text of its own."""
    return [dataset.name, dataset.split]


def made_by(engine: Engine, dataset: Dataset, indexed: Indexed, chosen: PipelineConfig) -> dict[str, Any]:
    """Data set, pipeline, collection, settings, models and code, each with all that can change a result."""
    settings = engine.settings
    status = engine.collection(indexed.name).status()
    said: dict[str, Any] = {
        "dataset": asked_of(dataset),
        "pipeline": asdict(chosen),
        "index": _mattering(settings.index),
        "encoder": _mattering(settings.encoder),
        "collection": [indexed.name, status.version, status.generation, status.manifest.fingerprint, indexed.encoder],
        "generation": asdict(settings.generation),
        "code": code(),
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


def _mattering(table: IndexConfig | EncoderConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(table).items() if name not in RESOURCES}


def _model(engine: Engine, name: str) -> str:
    return engine.language_model(name).fingerprint
