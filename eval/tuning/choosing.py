"""Points tried one after the other, and the best of them beside the default. Pure but for the values it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.significance import Paired, paired
from eval.tuning.space import Point


@dataclass(frozen=True, slots=True)
class Tried:
    """A point with its value, the mean over the queries, and each query's."""

    point: Point
    value: float
    per_query: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Choice:
    """All that was tried, the default first; ``best`` is the earliest of those with the largest value.

    beside  best minus default over the queries; its interval knows nothing of the choice and is too favourable
    """

    tried: Sequence[Tried]
    best: Tried
    beside: Paired


def choose(
    points: Sequence[Point],
    values: Callable[[Point], Mapping[str, float]],
    *,
    seed: int,
    resamples: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Choice:
    """Tries every point; one that ties with an earlier one is not chosen, so the default stays where none is better."""
    tried: list[Tried] = []
    for point in points:
        each = dict(values(point))
        tried.append(Tried(point, math.fsum(each.values()) / len(each), each))
        progress(len(tried))
    best = tried[0]
    for one in tried[1:]:
        if one.value > best.value + 1e-12:
            best = one
    default = tried[0].per_query
    differences = [best.per_query[query_id] - default[query_id] for query_id in sorted(default)]
    return Choice(tried, best, paired(differences, seed=seed, resamples=resamples, confidence=0.95))
