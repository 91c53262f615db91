"""Weights of chunk sets tried at many points over rankings that were retrieved once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eval.selecting import selected
from eval.trec import Qrels
from eval.tuning.space import SELECT, Point
from rag.errors import InvalidConfig
from rag.selection.search import SetSelector
from rag.selection_table import Weights
from rag.values import Query, Ranking


def weights_at(base: Weights, point: Point) -> Weights:
    """The weights with those of the point. Raises InvalidConfig for what [selection.weights] does not take."""
    changes: dict[str, Any] = {key.removeprefix(SELECT): value for key, value in point.items()}
    return replace(base, **changes)


def allowed(base: Weights, points: Sequence[Point]) -> list[Point]:
    """The points that are weights: benefits, and penalties, sum to 1 at most."""
    found = []
    for point in points:
        try:
            weights_at(base, point)
        except InvalidConfig:
            continue
        found.append(point)
    return found


@dataclass(frozen=True, slots=True)
class Weighing:
    """Values of weights: the share of the budgets within which every relevant document is in the context."""

    selector: SetSelector
    rankings: Sequence[tuple[Query, Ranking]]
    budgets: Sequence[int]
    qrels: Qrels

    def values(self, point: Point) -> Mapping[str, float]:
        """Query to value."""
        chosen = replace(self.selector, weights=weights_at(self.selector.weights, point))
        rows = [selected("tuned", chosen, self.rankings, budget, self.qrels).whole for budget in self.budgets]
        means = np.mean(np.asarray(rows, dtype=np.float64), axis=0)
        return {query.id: float(value) for (query, _), value in zip(self.rankings, means, strict=True)}
