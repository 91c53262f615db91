"""The JSON of POST /rerank, /v1/rerank and /v2/rerank."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class RerankRequest(Struct, kw_only=True):
    """Passages to be ordered by their relevance to a query, as Cohere, Jina, TEI, vLLM, Infinity or Voyage write it.

    Null is a field that is left out, a number or truth value may be a string, and unknown fields are ignored.

    documents  passages, or objects with a ``text``, perhaps a ``title``, and an ``id`` that is given back
    texts   in place of documents: the answer is TEI's array, its errors are TEI's
    model   a reranker's name: a built-in one, such as icr or sentences, or one of the server's settings; the server's
            default where it is left out
    top_n   how many to return; all where it is left out or there are fewer;  top_k  the same, and the answer has
            ``data`` too
    return_documents    give the passages back with their scores;  return_text  the same of texts
    raw_scores          the reranker's own scores in place of those between 0 and 1
    rank_fields         fields of the documents that are read, in this order, in place of title and text
    max_tokens_per_doc  of the text encoder's tokenizer; what is behind them is not read
    truncate, truncation_direction  long texts are always cut on the right
    deadline_ms, max_prefill_tokens  where a language model stops, 0 for no limit; the best order so far is then the
                        result, and ``trace.degraded`` says so
    explain_tokens      icr only: what each token of a passage adds to its score; the model reads the list again
    """

    query: str
    documents: list[str | dict[str, Any]] | None = None
    texts: list[str] | None = None
    model: str | None = None
    top_n: Count | None = None
    top_k: Count | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    raw_scores: bool | None = None
    rank_fields: list[str] | None = None
    max_tokens_per_doc: Count | None = None
    truncate: bool | None = None
    truncation_direction: Literal["left", "Left", "right", "Right"] | None = None
    deadline_ms: Annotated[float, Meta(ge=0, le=86_400_000)] | None = None
    max_prefill_tokens: Annotated[int, Meta(ge=0, le=10**9)] | None = None
    explain_tokens: bool | None = None

    @property
    def most(self) -> int | None:
        """How many results at most."""
        return self.top_k if self.top_n is None else self.top_n


class TokenScore(Struct, frozen=True):
    """A token of a passage as the model read it, the label in front included, and its share of the score."""

    text: str
    score: float


class RerankedDocument(Struct, frozen=True):
    """The passage as it was sent."""

    text: str
    title: str


class RerankResult(Struct, frozen=True, kw_only=True):
    """One passage.

    index  its place in the request, from 0
    score  in [0, 1], can be thresholded;  raw_score  what the reranker gave, of which ``kind`` says what it is
    relevance_score  the same as score; with ``raw_scores`` the raw one
    tokens  for a passage that was read in several windows, its share of the last
    """

    index: int
    id: str | UnsetType = UNSET
    relevance_score: float
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


class ReadTokens(Struct, frozen=True):
    """Tokens the model read for the request, those of cached passages among them."""

    prompt_tokens: int
    total_tokens: int


class ApiVersion(Struct, frozen=True):
    """Cohere's interface that is answered."""

    version: str


class BilledUnits(Struct, frozen=True):
    """One search unit is a query with up to 100 documents."""

    search_units: int


class MetaTokens(Struct, frozen=True):
    """Tokens the model read and wrote."""

    input_tokens: int
    output_tokens: int


class RerankMeta(Struct, frozen=True, kw_only=True):
    """What Cohere's clients read; ``warnings`` say where the answer is not quite what was asked for."""

    api_version: ApiVersion
    billed_units: BilledUnits
    tokens: MetaTokens
    cached_tokens: int
    warnings: list[str] | UnsetType = UNSET


class RerankResponse(Struct, frozen=True, kw_only=True):
    """The passages, best first, those of equal score in the order of the request. ``data`` repeats them for top_k."""

    object: Literal["rerank"] = "rerank"
    id: str
    created: int
    model: str
    score_kind: str
    results: list[RerankResult]
    data: list[RerankResult] | UnsetType = UNSET
    usage: ReadTokens
    meta: RerankMeta
    trace: RerankTrace
