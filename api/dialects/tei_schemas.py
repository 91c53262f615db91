"""The JSON of text-embeddings-inference's paths."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

TeiErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class TeiRank(Struct, frozen=True):
    """One text: its place in the request from 0, and its score, in [0, 1] unless raw ones were asked for."""

    index: int
    score: float
    text: str | UnsetType = UNSET


class TeiError(Struct, frozen=True):
    """An error as TEI's clients read it."""

    error: str
    error_type: TeiErrorType


class TeiLabels(Struct, frozen=True):
    """The one label of a reranker."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class TeiModelType(Struct, frozen=True):
    """What the model does: its one key says it."""

    reranker: TeiLabels


class TeiInfo(Struct, frozen=True, kw_only=True):
    """What a TEI client asks before its first request; ``model_id`` is the default reranker."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: TeiModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str


class EmbedRequest(Struct, kw_only=True):
    """Texts to embed. Unknown fields are ignored, null is a field that is left out.

    normalize  vectors are of unit length; false is refused, there are no others
    truncate, truncation_direction, prompt_name  long texts are always cut on the right, without a prompt
    dimensions  must be the model's own
    """

    inputs: str | list[str]
    normalize: bool | None = None
    truncate: bool | None = None
    dimensions: int | None = None
