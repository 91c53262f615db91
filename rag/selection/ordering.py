"""The order of the selected chunks in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rag.values import Hit

Order = Literal["score", "best-last", "document"]


def arrange(hits: Sequence[Hit], order: Order) -> tuple[Hit, ...]:
    """``hits`` (best first) in prompt order.

    score      best first;  best-last  the best next to the question (Liu et al., TACL 2024: the middle is read worst)
    document   chunks of one document together in text order, documents by their best chunk
    """
    if order == "score":
        return tuple(hits)
    if order == "best-last":
        return tuple(reversed(hits))
    first: dict[str, int] = {}
    for rank, hit in enumerate(hits):
        first.setdefault(hit.chunk.doc_id, rank)
    return tuple(sorted(hits, key=lambda hit: (first[hit.chunk.doc_id], hit.chunk.start, hit.chunk.id)))
