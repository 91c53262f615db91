"""What a chunk costs in the prompt: counted in one place, by the generator's tokenizer, glue included."""

from __future__ import annotations

from collections.abc import Sequence

from rag.entry import entry
from rag.protocols import TokenCounter
from rag.values import Hit


def costs(hits: Sequence[Hit], count: TokenCounter) -> list[int]:
    """Tokens of each hit's entry. The number is counted at its widest, so that no order exceeds the sum."""
    widest = max(len(hits), 1)
    return count([entry(widest, hit.chunk) for hit in hits])


def readable(hits: Sequence[Hit]) -> list[Hit]:
    """Hits whose chunk holds a visible character: an empty document never reaches a prompt."""
    return [hit for hit in hits if hit.chunk.text.strip() or hit.chunk.title.strip()]
