"""The JSON the server reads and writes, as msgspec structs; field names are those of the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from rag.errors import InvalidQuery

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Scalar = Int64 | float | bool | str
PipelineChoice = str | dict[str, Any]
"""A pipeline's name, or its keys with an optional ``name`` of the pipeline they replace keys of."""


class Request(Struct, forbid_unknown_fields=True, kw_only=True):
    """What every request body has in common: unknown fields are refused."""


# --- errors ---


class ErrorDetail(Struct, frozen=True):
    """The error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str


class Problem(Struct, frozen=True, kw_only=True):
    """The one shape of every error (RFC 9457)."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    error: ErrorDetail


# --- search ---


class SearchRequest(Request):
    """A question, or up to 100 of them.

    collection  a name, an alias or name@version
    k           how many chunks; the pipeline's own number where it is left out
    filter      a metadata filter, such as {"year": {"gte": 2000}}
    pipeline    a pipeline's name, or keys to replace: {"name": "hybrid", "depth": 200}
    explain     say what every stage made of each chunk
    """

    collection: str
    query: str | Annotated[list[str], Meta(min_length=1, max_length=100)]
    k: Int64 | None = None
    filter: dict[str, Any] | None = None
    pipeline: PipelineChoice | None = None
    explain: bool = False


class StageScore(Struct, frozen=True):
    """Where one stage put a chunk; ``rank`` counts from 1."""

    stage: str
    rank: int
    score: float
    score_kind: str


class Result(Struct, frozen=True):
    """One chunk. ``start`` and ``end`` are code point offsets into the document's text."""

    chunk_id: str
    document_id: str
    title: str
    text: str
    start: int
    end: int
    rank: int
    relevance_score: float
    raw_score: float
    score_kind: str
    explain: list[StageScore] | UnsetType = UNSET


class StageTrace(Struct, frozen=True):
    """What one stage did; ``n_in`` is null for a first-stage retriever.

    passes, decoded, peak_mb  forward passes of a language model, tokens it wrote, MiB it held; left out where 0
    degraded, notes           why it gave less than was asked for, and what else to know; left out where there is none
    first_token_ms            until the model had the first token of an answer; left out where it wrote none
    cache_mode                how cached states of passages were reused, left out where they were not
    reused, recomputed        tokens that came from there; share of the states that the mode computed all the same
    """

    stage: str
    time_ms: float
    n_in: int | None
    n_out: int
    tokens: int
    degraded: str | UnsetType = UNSET
    passes: int | UnsetType = UNSET
    decoded: int | UnsetType = UNSET
    peak_mb: float | UnsetType = UNSET
    notes: list[str] | UnsetType = UNSET
    cache_mode: str | UnsetType = UNSET
    reused: int | UnsetType = UNSET
    recomputed: float | UnsetType = UNSET
    first_token_ms: float | UnsetType = UNSET


class Trace(Struct, frozen=True):
    """How a request was answered, and from which state of the collection."""

    request_id: str
    collection: str
    version: int
    generation: int
    pipeline: str
    stages: list[StageTrace]
    total_time_ms: float


class SearchResponse(Struct, frozen=True):
    """The best chunks, best first."""

    results: list[Result]
    trace: Trace


class SearchResponses(Struct, frozen=True):
    """One answer a query, in the order they were asked."""

    responses: list[SearchResponse]


# --- answer ---


class AnswerRequest(Request):
    """A question to be answered from a collection.

    question  or ``query``, as searches call it; one of both
    budget  tokens of the prompt: sources with their separators, and the fixed words around them where a model is asked
    selector  who chooses them, in place of the pipeline's ``select``: budget, mmr, search, greedy, beam, local, mcts,
            exact
    explain say what every stage made of each source, and why each candidate is a source or not
    stream  answer with server-sent events: sources, token..., citations, answer, usage, done
    """

    collection: str
    question: str = ""
    query: str = ""
    k: Int64 | None = None
    budget: Int64 | None = None
    selector: str | None = None
    filter: dict[str, Any] | None = None
    pipeline: PipelineChoice | None = None
    stream: bool = False
    explain: bool = False

    @property
    def asked(self) -> str:
        """The question. Raises InvalidQuery where it has both names."""
        if self.question and self.query:
            raise InvalidQuery("the request has a question and a query; send one of them")
        return self.question or self.query


class CitedPlace(Struct, frozen=True):
    """A place in a source; ``start`` and ``end`` are null where the whole chunk is meant."""

    number: int
    chunk_id: str
    document_id: str
    start: int | None
    end: int | None


class NumberedSource(Struct, frozen=True):
    """A chunk the answer was made from; [number] in the text means it."""

    number: int
    chunk_id: str
    document_id: str
    title: str
    text: str
    start: int
    end: int
    relevance_score: float
    raw_score: float
    score_kind: str
    explain: list[StageScore] | UnsetType = UNSET


class BestSetSoFar(Struct, frozen=True):
    """From this evaluation on the best set of chunks known was this one."""

    evaluations: int
    utility: float
    chunk_ids: list[str]


class WeighedChunk(Struct, frozen=True):
    """A candidate and why it is a source or not.

    gain   what the set would lose without it, or for a rejected one what it would gain by it
    by     the term that speaks for it most, or what kept it out: a term, budget, size, most, limit, depth or empty
    terms  what each term adds to the gain;  instead_of  the source in whose place it was tried, null beside all of them
    """

    chunk_id: str
    gain: float
    by: str
    terms: dict[str, float]
    instead_of: str | None


class TreeBranch(Struct, frozen=True):
    """A node of the search tree: its parent's set and the chunk ``added``; the root has parent -1 and adds null."""

    parent: int
    added: str | None
    utility: float
    best: float
    visits: int
    closed: bool


class Selection(Struct, frozen=True):
    """How the sources were chosen from the candidates; ``tree`` has parents first, and is empty where none grew.

    end  optimal, complete, limit, or fill where chunks were taken by rank
    """

    selector: str
    utility: float
    evaluations: int
    tokens: int
    end: str
    best_sets: list[BestSetSoFar]
    chosen: list[WeighedChunk]
    rejected: list[WeighedChunk]
    tree: list[TreeBranch]


class TokenUsage(Struct, frozen=True):
    """Tokens by the generator's tokenizer."""

    prompt_tokens: int
    completion_tokens: int


class AnswerResponse(Struct, frozen=True):
    """An answer with its sources; ``found`` is false where the sources hold none."""

    answer: str
    found: bool
    citations: list[CitedPlace]
    sources: list[NumberedSource]
    usage: TokenUsage
    generator: str
    degraded: list[str]
    notes: list[str]
    trace: Trace
    selection: Selection | UnsetType = UNSET


# --- health ---


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Dependency(Struct, frozen=True):
    """One thing the server needs; ``latency_ms`` is what opening or asking it took."""

    service: str
    status: Literal["healthy", "unhealthy", "skipped"]
    latency_ms: float
    error: str | None


class Readiness(Struct, frozen=True):
    """``degraded``: requests are served, but something that is not essential is missing."""

    status: Literal["ready", "degraded", "warming", "unready", "draining"]
    dependencies: list[Dependency]
