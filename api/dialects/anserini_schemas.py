"""The JSON of Anserini's and Pyserini's server."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class AnseriniError(Struct, frozen=True):
    """An error as their clients read it."""

    error: str


class AnseriniQuery(Struct, frozen=True):
    """The query as it was asked."""

    text: str


class AnseriniCandidate(Struct, frozen=True):
    """A document by its best chunk; ``doc`` is an object, or as JSON text where parse is false."""

    docid: str
    score: float
    rank: int
    doc: dict[str, Any] | str


class AnseriniAnswer(Struct, frozen=True, kw_only=True):
    """The best documents, best first."""

    api: Literal["v1"] = "v1"
    index: str
    query: AnseriniQuery
    candidates: list[AnseriniCandidate]


class AnseriniDocument(Struct, frozen=True, kw_only=True):
    """One document."""

    api: Literal["v1"] = "v1"
    index: str
    docid: str
    doc: dict[str, Any] | str
