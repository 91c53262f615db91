"""How new scores for the head of a ranking become a Ranking of all its chunks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from rag.runtime.meter import Meter, Reuse
from rag.values import Hit, Ranking, ScoreKind, StageReport


def reranked(
    ranking: Ranking,
    scores: Sequence[float | None],
    *,
    stage: str,
    kind: ScoreKind,
    started: float,
    tokens: int = 0,
    bound: float = 1.0,
    meter: Meter | None = None,
    degraded: str = "",
    notes: tuple[str, ...] = (),
) -> Ranking:
    """The first ``len(scores)`` hits by their new scores; the rest behind them, in their old order.

    Equal scores keep their input order: the later one is put down by the least step a float knows. A score of None
    is of a hit that was not read, only kept, like the rest: those get scores below the least new one, a millionth
    apart. So does a score that is not a finite number, and the report says so.
    ``meter`` tells what a language model computed; without one ``tokens`` does.
    """
    head, tail = ranking.hits[: len(scores)], ranking.hits[len(scores) :]
    finite = {i: float(score) for i, score in enumerate(scores) if score is not None and math.isfinite(score)}
    hits: list[Hit] = []
    for i, score in sorted(finite.items(), key=lambda item: -item[1]):
        if hits and score >= hits[-1].score:
            score = math.nextafter(hits[-1].score, -math.inf)
        hits.append(Hit(head[i].chunk, score))
    floor = hits[-1].score if hits else 0.0
    step = max(1e-6, 4 * math.ulp(floor))
    kept = [hit for i, hit in enumerate(head) if i not in finite] + list(tail)
    hits += [Hit(hit.chunk, floor - step * rank) for rank, hit in enumerate(kept, start=1)]
    if bad := sum(score is not None for score in scores) - len(finite):
        degraded = "; ".join(filter(None, [degraded, f"{bad} scores were not numbers"]))
    reuse = meter.reuse if meter else Reuse()
    report = StageReport(
        stage,
        time.perf_counter() - started,
        len(ranking),
        len(hits),
        meter.prefill if meter else tokens,
        degraded,
        meter.passes if meter else 0,
        meter.decoded if meter else 0,
        round(meter.peak_bytes / 2**20, 3) if meter else 0.0,
        (*notes, *reuse.notes),
        reuse.mode,
        reuse.reused,
        round(reuse.recomputed, 4),
    )
    return Ranking(tuple(hits), kind, report, (ranking,), bound)
