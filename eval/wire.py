"""What a Kvasir server sends, as far as an evaluation reads it; other fields are passed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from rag.values import StageReport


class SentStage(Struct):
    """What one stage did; what a server leaves out is 0 or empty."""

    stage: str
    time_ms: float
    n_in: int | None
    n_out: int
    tokens: int
    degraded: str = ""
    passes: int = 0
    decoded: int = 0
    peak_mb: float = 0.0
    cache_mode: str = ""
    reused: int = 0


class SentTrace(Struct):
    stages: list[SentStage]

    def reports(self) -> tuple[StageReport, ...]:
        """As the library reports them."""
        return tuple(
            StageReport(
                sent.stage,
                sent.time_ms / 1e3,
                sent.n_in,
                sent.n_out,
                sent.tokens,
                sent.degraded,
                sent.passes,
                sent.decoded,
                sent.peak_mb,
                cache_mode=sent.cache_mode,
                reused=sent.reused,
            )
            for sent in self.stages
        )


class SentResult(Struct):
    chunk_id: str
    document_id: str
    raw_score: float


class SentSearch(Struct):
    results: list[SentResult]
    trace: SentTrace


class SentPlace(Struct):
    """A citation, or a source."""

    document_id: str


class SentUsage(Struct):
    prompt_tokens: int
    completion_tokens: int


class SentAnswer(Struct):
    answer: str
    found: bool
    citations: list[SentPlace]
    sources: list[SentPlace]
    usage: SentUsage
    trace: SentTrace


class SentStatus(Struct):
    """A collection; a damaged one has a problem and no counts."""

    name: str
    version: int | None
    generation: int | None
    documents: int | None
    chunks: int | None
    encoder: str | None
    problem: str = ""


class SentPipelines(Struct):
    """The pipelines as far as a server shows them, and which ones requests without a name get."""

    pipelines: list[dict[str, Any]]
    search: str
    answer: str


class SentEntry(Struct):
    id: str


class SentPage(Struct):
    documents: list[SentEntry]
    next: str | None


class SentDocument(Struct):
    id: str
    title: str
    text: str


class SentError(Struct):
    code: str = ""


class SentProblem(Struct):
    """Why a request was refused."""

    detail: str = ""
    error: SentError = field(default_factory=SentError)


def documents_of(places: Sequence[SentPlace]) -> list[str]:
    """Document ids, each once, in order."""
    return list(dict.fromkeys(place.document_id for place in places))
