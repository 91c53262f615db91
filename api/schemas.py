"""The JSON the server reads and writes, as msgspec structs; field names are those of the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

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
    """What one stage did; ``n_in`` is null for a first-stage retriever."""

    stage: str
    time_ms: float
    n_in: int | None
    n_out: int
    tokens: int
    degraded: str | UnsetType = UNSET


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

    budget  tokens of sources that go into the answer
    stream  answer with server-sent events: sources, token..., citations, answer, usage, done
    """

    collection: str
    question: str
    k: Int64 | None = None
    budget: Int64 | None = None
    filter: dict[str, Any] | None = None
    pipeline: PipelineChoice | None = None
    stream: bool = False
    explain: bool = False


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


# --- collections and documents ---


class DocumentBody(Request):
    """A document. Metadata values are strings, numbers, booleans or lists of those."""

    id: str
    text: str
    title: str = ""
    metadata: dict[str, Scalar | list[Scalar]] = {}


class ChunkingBody(Request):
    """How documents are cut; ``limit`` and ``overlap`` count the text encoder's tokens."""

    kind: Literal["whole", "sentences", "headings"] = "sentences"
    limit: Int64 | None = None
    overlap: Int64 | None = None


class CreateCollection(Request):
    """A new collection and its first documents."""

    name: str
    documents: Annotated[list[DocumentBody], Meta(min_length=1)]
    chunking: Literal["whole", "sentences", "headings"] | ChunkingBody | None = None


class AddDocuments(Request):
    """Documents to add; one whose id is already there is replaced."""

    documents: Annotated[list[DocumentBody], Meta(min_length=1)]


class DeleteDocuments(Request):
    """Ids of documents to delete; ids that are not there are passed over."""

    ids: Annotated[list[str], Meta(min_length=1)]


class CollectionStatus(Struct, frozen=True, kw_only=True):
    """What a collection holds now. A collection that cannot be opened has a ``problem`` and no counts."""

    name: str
    status: Literal["ok", "damaged"] = "ok"
    version: int | None = None
    generation: int | None = None
    documents: int | None = None
    chunks: int | None = None
    encoder: str | None = None
    vectors: str | None = None
    chunking: str | None = None
    created: str | None = None
    problem: str | UnsetType = UNSET


class CollectionList(Struct, frozen=True):
    """All collections by name, and what each alias points at."""

    collections: list[CollectionStatus]
    aliases: dict[str, str]


class Dropped(Struct, frozen=True):
    """The collection that was removed."""

    dropped: str


class ChangeCounts(Struct, frozen=True):
    """What a change did. ``updated`` documents count in ``added`` too; ``empty`` ones have no chunk."""

    generation: int
    added: int
    updated: int
    deleted: int
    empty: int
    chunks: int


class DocumentEntry(Struct, frozen=True):
    """A document in a list, with the number of its chunks."""

    id: str
    title: str
    chunks: int


class DocumentList(Struct, frozen=True):
    """A page of documents by ascending id; ``next`` is the ``after`` of the following page, null on the last."""

    documents: list[DocumentEntry]
    next: str | None


class StoredDocument(Struct, frozen=True):
    """A document as it is stored."""

    id: str
    title: str
    text: str
    metadata: dict[str, Any]


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

    status: Literal["ready", "degraded", "warming", "unready"]
    dependencies: list[Dependency]
