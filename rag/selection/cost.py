"""What chunks cost in the prompt: counted in one place, as what answers writes them, glue and frame included."""

from __future__ import annotations

from collections.abc import Sequence

from rag.protocols import PromptCounter
from rag.values import Chunk, Hit

_EMPTY = Chunk("", "", "", 0, 0)


def room(budget: int, count: PromptCounter) -> int:
    """Tokens of the budget that are left for sources; 0 where the frame alone takes it all."""
    return max(0, budget - count.frame())


def costs(hits: Sequence[Hit], count: PromptCounter) -> list[int]:
    """Most tokens that each hit can take: its number may become any, so that no order exceeds the sum."""
    dearest = _dearest(len(hits), count)
    return count.sources([dearest] * len(hits), [hit.chunk for hit in hits])


def spent(hits: Sequence[Hit], count: PromptCounter) -> int:
    """Tokens of the prompt with ``hits`` in their order, without the question; 0 for none, which are no prompt."""
    numbers = range(1, len(hits) + 1)
    return count.frame() + sum(count.sources(numbers, [hit.chunk for hit in hits])) if hits else 0


def _dearest(most: int, count: PromptCounter) -> int:
    """The number up to ``most`` with the most tokens: not always the largest, 342 can be two tokens and 500 one."""
    numbers = range(1, most + 1)
    tokens = count.sources(numbers, [_EMPTY] * most)
    return max(numbers, key=lambda number: (tokens[number - 1], number), default=1)


def readable(hits: Sequence[Hit]) -> list[Hit]:
    """Hits whose chunk holds a visible character: an empty document never reaches a prompt."""
    return [hit for hit in hits if hit.chunk.text.strip() or hit.chunk.title.strip()]
