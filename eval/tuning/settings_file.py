"""A tuned pipeline as a settings file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import tomlkit

from eval.tuning.space import SELECT, Point
from rag.config import BUILT_IN, PipelineConfig


def toml(name: str, config: PipelineConfig, chosen: Point, comment: str) -> str:
    """``[pipeline.NAME]`` with the chosen keys and those that differ from what the name starts from.

    Chosen weights of chunk sets stand in ``[selection.weights]``, which holds for all pipelines.
    """
    start = asdict(BUILT_IN.get(name, PipelineConfig()))
    keys = {key: value for key, value in asdict(config).items() if key in chosen or value != start[key]}
    weights = {key.removeprefix(SELECT): value for key, value in chosen.items() if key.startswith(SELECT)}
    document = tomlkit.document()
    document.add(tomlkit.comment(comment))
    document["pipeline"] = {name: _plain(keys)}
    if weights:
        document["selection"] = {"weights": weights}
    text: str = tomlkit.dumps(document)
    return text


def _plain(keys: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in keys.items()}
