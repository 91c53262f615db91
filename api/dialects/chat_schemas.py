"""The JSON of POST /v1/chat/completions; what is beyond OpenAI's stands at the top level, never in a delta."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from api.rerank_schemas import Count
from api.schemas import CitedPlace, Int64, NumberedSource, Trace

Share = Annotated[float, Meta(ge=0, le=1)]
Finish = Literal["stop", "length"]


class ChatPart(Struct):
    """A part of a message; only parts of type text are taken."""

    type: str
    text: str = ""


class ChatMessage(Struct):
    """One turn of the conversation."""

    role: str
    content: str | list[ChatPart] | None = None


class StreamOptions(Struct):
    """include_usage  a last chunk tells the tokens."""

    include_usage: bool | None = None


class ChatRequest(Struct, kw_only=True):
    """A conversation whose last question is answered from a collection. Unknown fields are ignored.

    model     kvasir/COLLECTION or kvasir/COLLECTION/PIPELINE
    messages  the last one of the user is the question; how many before it are read with it says the server's
              dialects.chat_turns; system messages and answers are not read
    max_tokens, max_completion_tokens  of the answer, at most the server's own limit
    temperature, top_p, seed, stop  for a language model; a note says where the pipeline's generator has them not
    n         must be 1
    k, budget, filter  as in POST /v1/answer
    """

    model: str
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=10_000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    seed: Int64 | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    n: int | None = None
    k: Int64 | None = None
    budget: Int64 | None = None
    filter: dict[str, Any] | None = None


class AssistantMessage(Struct, frozen=True, kw_only=True):
    """The answer; [n] in it means the nth source."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(Struct, frozen=True, kw_only=True):
    """The one answer. finish_reason  length where a limit of tokens or time cut it."""

    index: int = 0
    message: AssistantMessage
    finish_reason: Finish
    logprobs: None = None


class CachedTokens(Struct, frozen=True):
    """Tokens of the prompt whose states came from the cache."""

    cached_tokens: int


class ChatUsage(Struct, frozen=True, kw_only=True):
    """Tokens by the generator's tokenizer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """The answer, with its sources and citations as POST /v1/answer gives them."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage
    sources: list[NumberedSource]
    citations: list[CitedPlace]
    found: bool
    generator: str
    degraded: list[str]
    notes: list[str]
    trace: Trace


class Delta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True, kw_only=True):
    """The answer so far grows by ``delta``; the last one has a finish_reason."""

    index: int = 0
    delta: Delta
    finish_reason: Finish | None = None


class ChatChunk(Struct, frozen=True, kw_only=True):
    """One event. The first tells the sources, that with the finish_reason the citations and all else."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | UnsetType = UNSET
    sources: list[NumberedSource] | UnsetType = UNSET
    citations: list[CitedPlace] | UnsetType = UNSET
    found: bool | UnsetType = UNSET
    generator: str | UnsetType = UNSET
    degraded: list[str] | UnsetType = UNSET
    notes: list[str] | UnsetType = UNSET
    trace: Trace | UnsetType = UNSET
