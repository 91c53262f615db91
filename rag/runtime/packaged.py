"""The language model that comes with Kvasir, by its name."""

from __future__ import annotations

from importlib.resources import files

EMBEDDED = "embedded"


def packaged_path(model: str) -> str:
    """The directory of the model called ``embedded``, "" for every other name."""
    return str(files("rag").joinpath("embedded_model", "weights")) if model == EMBEDDED else ""
