"""The JSON of POST /v1/rerank."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from api.schemas import Request


class RerankDocument(Request):
    """A passage; its id is given back and need not be unique."""

    text: str
    title: str = ""
    id: str | UnsetType = UNSET


class RerankRequest(Request):
    """Passages to be ordered by their relevance to a query.

    model   a reranker's name: a built-in one, such as icr or sentences, or one of the server's settings
    top_n   how many to return; all where it is left out
    return_documents    give the passages back with their scores
    deadline_ms, max_prefill_tokens  where a language model stops, 0 for no limit; the best order so far is then the
                        result, and ``trace.degraded`` says so
    explain_tokens      icr only: what each token of a passage adds to its score; the model reads the list again
    """

    model: str
    query: str
    documents: list[str | RerankDocument]
    top_n: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    return_documents: bool = False
    deadline_ms: Annotated[float, Meta(ge=0, le=86_400_000)] = 0.0
    max_prefill_tokens: Annotated[int, Meta(ge=0, le=10**9)] = 0
    explain_tokens: bool = False


class TokenScore(Struct, frozen=True):
    """A token of a passage as the model read it, the label in front included, and its share of the score."""

    text: str
    score: float


class RerankedDocument(Struct, frozen=True):
    """The passage as it was read."""

    text: str
    title: str


class RerankResult(Struct, frozen=True, kw_only=True):
    """One passage.

    index  its place in the request, from 0
    score  in [0, 1], can be thresholded;  raw_score  what the reranker gave, of which ``kind`` says what it is
    tokens  for a passage that was read in several windows, its share of the last
    """

    index: int
    id: str | UnsetType = UNSET
    score: float
    raw_score: float
    kind: str
    document: RerankedDocument | UnsetType = UNSET
    tokens: list[TokenScore] | UnsetType = UNSET


class RerankTrace(Struct, frozen=True, kw_only=True):
    """What the reranker did.

    tokens, decoded  tokens its model computed for this request, and wrote;  passes  forward passes
    peak_mb          MiB of key/value states and work space;  degraded  why it gave less than was asked for, or empty
    cache_mode       how cached states of passages were reused, left out where they were not
    reused, recomputed  tokens that came from there; share of the states that the mode computed all the same
    """

    request_id: str
    stage: str
    time_ms: float
    n_in: int
    n_out: int
    tokens: int
    passes: int
    decoded: int
    peak_mb: float
    degraded: str
    notes: list[str]
    cache_mode: str | UnsetType = UNSET
    reused: int | UnsetType = UNSET
    recomputed: float | UnsetType = UNSET
    total_time_ms: float


class RerankResponse(Struct, frozen=True):
    """The passages, best first, those of equal score in the order of the request."""

    model: str
    results: list[RerankResult]
    trace: RerankTrace
