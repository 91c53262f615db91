"""How a first-stage search becomes a Ranking with its report."""

from __future__ import annotations

import time

from indexes.snapshot import Found
from rag.errors import InvalidQuery
from rag.values import Hit, Ranking, ScoreKind, StageReport


def ranking(found: Found, k: int, *, stage: str, kind: ScoreKind, started: float, tokens: int = 0) -> Ranking:
    """The k best of what was found, ties by chunk id. ``started`` is a time.perf_counter reading."""
    hits = tuple(Hit(chunk, score) for _, chunk, score in found)
    if len(hits) > k:
        hits = tuple(sorted(hits, key=lambda hit: (-hit.score, hit.chunk.id)))[:k]
    return Ranking(hits, kind, StageReport(stage, time.perf_counter() - started, n_out=len(hits), tokens=tokens))


def check_depth(k: int, depth: int) -> None:
    """Raises InvalidQuery for a k above the depth: it would need other candidates, and so give other scores."""
    if k > depth:
        raise InvalidQuery(f"k = {k} is above this pipeline's depth of {depth}; ask for fewer, or set depth = {k}")
