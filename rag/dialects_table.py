"""The settings file's table for requests in the forms of other servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rag.tables import in_range


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectsConfig:
    """[dialects] How requests in the forms of other servers are taken.

    reranker  orders passages where a request names no model
    unknown_models  refuse a request for a model that is not there, or give it the default one, and say so; for clients
              in which another server's model name is fixed
    max_inputs  texts of one request to embed
    mcp_tokens  of texts in one result of a tool, by the text encoder's tokenizer
    chat_turns  earlier questions of a conversation that are read with the last one, to find and to answer
    """

    reranker: str = "sentences"
    unknown_models: Literal["refuse", "default"] = "refuse"
    max_inputs: int = 2048
    mcp_tokens: int = 4000
    chat_turns: int = 0

    def __post_init__(self) -> None:
        in_range("dialects.max_inputs", self.max_inputs, 1, 1_000_000)
        in_range("dialects.mcp_tokens", self.mcp_tokens, 10, 1_000_000)
        in_range("dialects.chat_turns", self.chat_turns, 0, 1000)
