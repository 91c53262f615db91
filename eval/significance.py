"""Whether one system is better than another: paired tests and intervals over per-query differences. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TIE = 1e-9
"""Differences of at most this size are ties: what is left of a sum in another order."""
CELLS = 1_000_000
"""Resampled differences that are held at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """What the differences of one pair of systems say.

    queries         how many there are;  mean  their mean
    low, high       bootstrap interval of the mean
    t_p             two-sided p of the paired t test, None where it has no value: one query, or no spread
    randomised_p    two-sided p of the randomisation test;  exact  True where all sign flips were counted
    wins, ties, losses  queries with a positive, no, a negative difference
    """

    queries: int
    mean: float
    low: float
    high: float
    t_p: float | None
    randomised_p: float
    exact: bool
    wins: int
    ties: int
    losses: int


def paired(differences: Sequence[float], *, seed: int, resamples: int, confidence: float) -> Paired:
    """All of it over one difference a query. The order of the differences decides which samples the seed draws.

    Raises ValueError where there is no difference at all.
    """
    if not differences:
        raise ValueError("no query to compare over")
    p, exact = randomisation(differences, seed=seed, resamples=resamples)
    low, high = bootstrap(differences, seed=seed, resamples=resamples, confidence=confidence)
    return Paired(
        queries=len(differences),
        mean=math.fsum(differences) / len(differences),
        low=low,
        high=high,
        t_p=t_test(differences),
        randomised_p=p,
        exact=exact,
        wins=sum(difference > TIE for difference in differences),
        ties=sum(abs(difference) <= TIE for difference in differences),
        losses=sum(difference < -TIE for difference in differences),
    )


def randomisation(differences: Sequence[float], *, seed: int, resamples: int) -> tuple[float, bool]:
    """Two-sided p of Fisher's randomisation test of the mean, and whether it is exact (Smucker et al., CIKM 2007).

    The null hypothesis lets every difference change its sign. Ties are left out: their sign changes no mean. Where
    ``resamples`` reach 2^n, n the differences that are left, every assignment of signs is counted once; else so many
    are drawn, and p = (hits + 1) / (resamples + 1) is never 0.
    """
    from scipy import stats  # type: ignore[import-untyped]

    moved = [difference for difference in differences if abs(difference) > TIE]
    if not moved:
        return 1.0, True
    if len(moved) == 1:
        return 1.0, True  # either sign is as far from 0
    exact = len(moved) < 63 and 2 ** len(moved) <= resamples
    tested = stats.permutation_test(
        (np.asarray(moved),),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, CELLS // len(moved)),
        rng=np.random.default_rng(seed),
    )
    return float(tested.pvalue), exact


def t_test(differences: Sequence[float]) -> float | None:
    """Two-sided p of Student's paired t test; None where t is not defined: a single query, or no spread."""
    from scipy import stats

    if len(differences) < 2 or max(differences) - min(differences) <= TIE:
        return None
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def bootstrap(differences: Sequence[float], *, seed: int, resamples: int, confidence: float) -> tuple[float, float]:
    """The percentile interval of the mean over queries drawn with replacement (Efron & Tibshirani 1993, ch. 13)."""
    from scipy import stats

    if max(differences) - min(differences) <= TIE:
        return float(differences[0]), float(differences[0])
    drawn = stats.bootstrap(
        (np.asarray(differences),),
        _mean,
        method="percentile",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, CELLS // len(differences)),
        confidence_level=confidence,
        rng=np.random.default_rng(seed),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def _mean(sample: Any, axis: int = -1) -> Any:
    return np.mean(sample, axis=axis)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for their number by Holm's step-down method, in the order given (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1, never falls below those before it and never exceeds 1.
    None is a test without a value: it stays None and does not count.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for done, (p, place) in enumerate(tested):
        least = max(least, min(1.0, p * (len(tested) - done)))
        corrected[place] = least
    return corrected
