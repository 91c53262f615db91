"""The form of a result file, so that one of another form is refused by its file and field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct, ValidationError, convert, field

from eval.trec import Scored
from rag.errors import InvalidInput

Amount = Annotated[float, Meta(ge=0, le=1e15)]
Share = Annotated[float, Meta(ge=0, le=1)]
Form = TypeVar("Form")


class Latency(Struct, frozen=True):
    """Milliseconds a query."""

    p50: Amount | None = None
    p95: Amount | None = None


class Tokens(Struct, frozen=True):
    """A query."""

    prefill_tokens: Amount | None = None
    decoded_tokens: Amount | None = None


class Built(Struct, frozen=True):
    """The collection's build: seconds by step, and its size in MiB, None behind a server."""

    seconds: dict[str, Amount] = field(default_factory=dict)
    megabytes: Amount | None = None


class Facts(Struct, frozen=True):
    """What a result file says of its system as far as reports count with it; other keys are shown as they stand.

    depth  documents of a query that were scored, of a reranker's file those that were reranked;  stages_ms  means
    """

    dataset: str = ""
    split: str = ""
    reranker: str = ""
    depth: Annotated[int, Meta(ge=1)] | None = None
    notes: list[str] = field(default_factory=list)
    latency_ms: Latency = field(default_factory=Latency)
    stages_ms: dict[str, Amount] = field(default_factory=dict)
    work: Tokens = field(default_factory=Tokens)
    build: Built = field(default_factory=Built)
    cache_share: Share | None = None
    peak_memory_mb: Amount | None = None

    @property
    def cut(self) -> int | None:
        """The rank below which the file's lists were cut off, None where they were not."""
        return None if self.reranker else self.depth


class Row(Struct, frozen=True):
    """One judged query: documents best first with their scores, seconds where they were measured."""

    text: str
    documents: list[tuple[str, float]]
    qrels: dict[str, int]
    seconds: Amount | None
    measures: dict[str, float] = field(default_factory=dict)

    def scored(self) -> tuple[Scored, ...]:
        """The documents. Raises ValueError for one that comes twice, and for a score that is not finite."""
        if len({name for name, _ in self.documents}) != len(self.documents):
            raise ValueError("a document comes twice")
        if not all(math.isfinite(score) for _, score in self.documents):
            raise ValueError("a score is not a number, or not finite")
        return tuple(Scored(name, score) for name, score in self.documents)


def facts(said: Mapping[str, Any], file: Path) -> Facts:
    """Raises InvalidInput that names file and field."""
    return _converted(said, Facts, str(file))


def row(said: object, place: str) -> Row:
    """Raises InvalidInput that names place and field."""
    found = _converted(said, Row, place)
    try:
        found.scored()
    except ValueError as error:
        raise InvalidInput(f"{place}: {error}; make the file anew with --result FILE") from None
    return found


def _converted(said: object, form: type[Form], place: str) -> Form:
    try:
        return convert(said, form)
    except ValidationError as error:
        raise InvalidInput(f"{place}: {error}; this is no result file, make it anew with --result FILE") from None
