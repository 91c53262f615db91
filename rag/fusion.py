"""Fusion of rankings: pure functions over scores by chunk id.

A chunk's fused score depends on the rankings it was given and on nothing else: not on how many results the caller
will show. Inputs are never changed. A chunk missing from a ranking contributes nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

Scores = Mapping[str, float]
"""Chunk id to score, one ranking; larger is better."""

Normalization = Literal["minmax", "zscore", "theoretical"]

RRF_C = 60
"""Cormack, Clarke & Buettcher, SIGIR 2009."""


def reciprocal_rank(rankings: Sequence[Scores], weights: Sequence[float], c: int = RRF_C) -> dict[str, float]:
    """Sum over rankings of w / (c + rank), ranks from 1; equal scores are ranked by ascending id."""
    fused: dict[str, float] = {}
    for scores, weight in zip(rankings, weights, strict=True):
        ordered = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))
        for rank, chunk_id in enumerate(ordered, start=1):
            fused[chunk_id] = fused.get(chunk_id, 0.0) + weight / (c + rank)
    return fused


def weighted_sum(
    rankings: Sequence[Scores],
    weights: Sequence[float],
    normalization: Normalization = "minmax",
    floors: Sequence[float] | None = None,
) -> dict[str, float]:
    """Sum over rankings of w * normalized score.

    minmax       (s - min) / (max - min) of the ranking; a ranking of equal scores is 1.0 throughout
    zscore       (s - mean) / standard deviation (population), squashed by the logistic function so that a chunk
                 missing from a ranking, which adds 0, can never gain by being missing
    theoretical  (s - floor) / (max - floor), ``floors`` being each kind's least possible score (BM25 0, cosine -1):
                 Bruch, Gai & Ingber, TOIS 2023. A score below the floor counts as the floor
    """
    norms: list[Callable[[Scores], dict[str, float]]]
    if normalization == "theoretical":
        assert floors is not None, "theoretical normalization needs each ranking's least possible score"
        norms = [lambda scores, floor=floor: _theoretical(scores, floor) for floor in floors]  # type: ignore[misc]
    else:
        norms = [_minmax if normalization == "minmax" else _zscore] * len(rankings)
    fused: dict[str, float] = {}
    for scores, weight, normalize in zip(rankings, weights, norms, strict=True):
        for chunk_id, score in normalize(scores).items():
            fused[chunk_id] = fused.get(chunk_id, 0.0) + weight * score
    return fused


def interpolate(sparse: Scores, dense: Scores, alpha: float) -> dict[str, float]:
    """alpha * sparse + (1 - alpha) * dense for the chunks of ``sparse``; Leonhardt et al., WWW 2022 (Fast-Forward).

    Every chunk of ``sparse`` has its dense score, looked up and not searched.
    """
    return {chunk_id: alpha * score + (1.0 - alpha) * dense[chunk_id] for chunk_id, score in sparse.items()}


def _minmax(scores: Scores) -> dict[str, float]:
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {chunk_id: (score - low) / (high - low) for chunk_id, score in scores.items()}


def _zscore(scores: Scores) -> dict[str, float]:
    if not scores:
        return {}
    mean = math.fsum(scores.values()) / len(scores)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores.values()) / len(scores))
    if deviation == 0.0 or min(scores.values()) == max(scores.values()):  # equal scores, a mean that was rounded
        return dict.fromkeys(scores, 0.5)
    return {chunk_id: 1.0 / (1.0 + math.exp((mean - score) / deviation)) for chunk_id, score in scores.items()}


def _theoretical(scores: Scores, floor: float) -> dict[str, float]:
    if not scores:
        return {}
    high = max(scores.values())
    if high <= floor:
        return dict.fromkeys(scores, 0.0)
    return {chunk_id: max(0.0, score - floor) / (high - floor) for chunk_id, score in scores.items()}
