"""How new scores for the head of a ranking become a Ranking of all its chunks."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rag.values import Hit, Ranking, ScoreKind, StageReport


def reranked(
    ranking: Ranking, scores: Sequence[float], *, stage: str, kind: ScoreKind, started: float, tokens: int
) -> Ranking:
    """The first ``len(scores)`` hits by their new scores; the rest behind them, in their old order.

    The rest get scores below the least new one, a millionth apart: they were not read, only kept.
    """
    head, tail = ranking.hits[: len(scores)], ranking.hits[len(scores) :]
    hits = [Hit(hit.chunk, float(score)) for hit, score in zip(head, scores, strict=True)]
    floor = min((hit.score for hit in hits), default=0.0)
    hits += [Hit(hit.chunk, floor - 1e-6 * rank) for rank, hit in enumerate(tail, start=1)]
    report = StageReport(stage, time.perf_counter() - started, len(ranking), len(hits), tokens)
    return Ranking(tuple(hits), kind, report, (ranking,))
