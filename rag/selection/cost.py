"""What a chunk costs in the prompt: counted in one place, by the generator's tokenizer, glue included."""

from __future__ import annotations

from collections.abc import Sequence

from rag.entry import entry
from rag.protocols import TokenCounter
from rag.values import Hit


def costs(hits: Sequence[Hit], count: TokenCounter) -> list[int]:
    """Most tokens that each hit's entry can take: its number may become any, so that no order exceeds the sum."""
    dearest = _dearest(len(hits), count)
    return count([entry(dearest, hit.chunk) for hit in hits])


def spent(hits: Sequence[Hit], count: TokenCounter) -> int:
    """Tokens of the entries of ``hits`` in prompt order, as they will stand there."""
    return sum(count([entry(number, hit.chunk) for number, hit in enumerate(hits, start=1)]))


def _dearest(most: int, count: TokenCounter) -> int:
    """The number up to ``most`` with the most tokens: not always the largest, 342 can be two tokens and 500 one."""
    tokens = count([f"[{number}]" for number in range(1, most + 1)])
    return max(range(1, most + 1), key=lambda number: (tokens[number - 1], number), default=1)


def readable(hits: Sequence[Hit]) -> list[Hit]:
    """Hits whose chunk holds a visible character: an empty document never reaches a prompt."""
    return [hit for hit in hits if hit.chunk.text.strip() or hit.chunk.title.strip()]
