"""The JSON of the OpenAI and vLLM paths for embeddings, scores and models."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from api.rerank_schemas import ReadTokens


class EmbeddingsRequest(Struct, kw_only=True):
    """Texts to embed. Unknown fields are ignored, null is a field that is left out.

    model  the text encoder's name, as GET /v1/models lists it; left out it is meant too
    input  a text, or several; token ids are refused
    encoding_format  float, or base64 of little-endian float32
    dimensions  must be the model's own
    input_type  query or search_query for questions; every other is for documents
    """

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    input_type: str | None = None


class Embedding(Struct, frozen=True, kw_only=True):
    """The vector of one text, of unit length."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(Struct, frozen=True, kw_only=True):
    """One vector a text, in their order; tokens by the encoder's tokenizer."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: ReadTokens


class ScoreRequest(Struct, kw_only=True):
    """A text and texts to be scored against it, or as many of one as of the other. Unknown fields are ignored.

    model  a reranker's name; the server's default where it is left out
    """

    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None
    queries: str | list[str] | None = None
    documents: str | list[str] | None = None
    model: str | None = None


class Score(Struct, frozen=True, kw_only=True):
    """One pair; ``score`` lies between 0 and 1, ``raw_score`` is the reranker's own."""

    index: int
    object: Literal["score"] = "score"
    score: float
    raw_score: float


class ScoreResponse(Struct, frozen=True, kw_only=True):
    """The scores in the order of the request."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    score_kind: str
    data: list[Score]
    usage: ReadTokens


class Model(Struct, frozen=True, kw_only=True):
    """Something that a request can name: a reranker, the encoder, or a collection with one of the pipelines."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["kvasir"] = "kvasir"
    kind: Literal["reranker", "encoder", "collection"]


class ModelList(Struct, frozen=True, kw_only=True):
    """All there are."""

    object: Literal["list"] = "list"
    data: list[Model]
