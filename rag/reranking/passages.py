"""What of a chunk a reranker reads: the same text and the same token ids, whoever asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag.runtime.tokens import PromptTokenizer
from rag.values import Chunk

ATTENTION_TOKENS, PROMPT_TOKENS = 512, 128
"""Tokens of a passage that are read where nothing else is asked for: by attention reranking, and by the others."""
BLANKS = {"listwise": " ", "likelihood": " "}
"""What a passage begins with in a prompt of this kind of reranker; nothing in the others."""


def attention_text(chunk: Chunk) -> str:
    """Title, line break, text: as the published code of attention reranking writes a document."""
    return chunk.titled


def prompt_text(chunk: Chunk) -> str:
    """Title and text as the other kinds of rerankers write a passage."""
    return chunk.content.strip()


@dataclass(frozen=True, slots=True)
class PassageForm:
    """How a kind of reranker writes passages.

    longest  tokens of a passage that are read, 0 for all; where a prompt has less room, it is less there
    """

    kind: str
    longest: int

    def ids(self, tokenizer: PromptTokenizer, chunks: Sequence[Chunk], most: int = 0) -> list[tuple[int, ...]]:
        """Ids of each chunk, at most ``most`` (0: no bound), as they stand in a prompt that names no places.

        Empty for a chunk without text, which is not read.
        """
        longest = min(self.longest or most, most or self.longest)
        text_of = attention_text if self.kind == "icr" else prompt_text
        texts, blank = [text_of(chunk) for chunk in chunks], BLANKS.get(self.kind, "")
        found = tokenizer.encode_many([blank + text for text in texts])
        return [tuple(ids[: longest or None]) if text else () for ids, text in zip(found, texts, strict=True)]


def passage_form(kind: str, passage_tokens: int = 0) -> PassageForm:
    """The form of a kind of reranker; 0 tokens is the kind's default."""
    return PassageForm(kind, passage_tokens or (ATTENTION_TOKENS if kind == "icr" else PROMPT_TOKENS))
