"""What makes a chunk set good or bad: one term a property, each in [0, 1], over plain arrays, without a model.

A term takes a batch of selections and gives (b,) float64. Sums and products run candidate by candidate, so that a value
does not depend on the batch it was computed in. ``most(chosen, others)`` bounds the term from above for every selection
between ``chosen`` and ``chosen`` with all of ``others``; ``least`` from below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rag.selection.problem import Selection

Array = NDArray[np.float64]


class Term(Protocol):
    """One property of selections, in [0, 1]; 0 for the empty one."""

    def __call__(self, selections: Sequence[Selection]) -> Array: ...

    def most(self, chosen: Selection, others: Sequence[int]) -> float: ...

    def least(self, chosen: Selection, others: Sequence[int]) -> float: ...


class _Growing(Term):
    """A term that no further candidate lowers."""

    def most(self, chosen: Selection, others: Sequence[int]) -> float:
        return float(self([(*chosen, *others)])[0])

    def least(self, chosen: Selection, others: Sequence[int]) -> float:
        return float(self([chosen])[0])


@dataclass(frozen=True, eq=False)
class Coverage(_Growing):
    """Weighted share of the aspects covered: sum_a w_a (1 - prod_{i in S} (1 - p_ia)). Monotone, submodular.

    weights (a,) of the aspects, 0 or more, normalised here to the sum 1;  matches (a, n) in [0, 1]: how far
    candidate i covers aspect a
    """

    weights: Array
    matches: Array

    def __call__(self, selections: Sequence[Selection]) -> Array:
        places, missing = _places(selections, self.matches.shape[1]), self._missing
        left = np.ones((len(self.weights), len(selections)))
        for column in places.T:
            left *= missing[:, column]
        total = np.zeros(len(selections))
        for weight, row in zip(self._share, left, strict=True):
            total += weight * (1.0 - row)
        return total.clip(0.0, 1.0)

    @cached_property
    def _share(self) -> Array:
        return np.asarray(self.weights / (self.weights.sum() or 1.0))

    @cached_property
    def _missing(self) -> Array:
        """(a, n + 1) chance that an aspect stays open; the last column is of the filler."""
        return np.hstack([1.0 - self.matches, np.ones((len(self.weights), 1))])


@dataclass(frozen=True, eq=False)
class Average(Term):
    """Mean over the chosen of a number each in [0, 1]: calibrated relevance; or harm, with a negative weight."""

    values: Array

    def __call__(self, selections: Sequence[Selection]) -> Array:
        padded = np.append(self.values, 0.0)
        total = np.zeros(len(selections))
        for column in _places(selections, len(self.values)).T:
            total += padded[column]
        return (total / np.maximum(1, _sizes(selections))).clip(0.0, 1.0)

    def most(self, chosen: Selection, others: Sequence[int]) -> float:
        return self._extreme(chosen, sorted(self.values[list(others)].tolist(), reverse=True), max)

    def least(self, chosen: Selection, others: Sequence[int]) -> float:
        return self._extreme(chosen, sorted(self.values[list(others)].tolist()), min) if chosen else 0.0

    def _extreme(self, chosen: Selection, others: list[float], better: Callable[[float, float], float]) -> float:
        """The mean with as many of ``others``, best first, as improve it."""
        total, size = float(self.values[list(chosen)].sum()), len(chosen)
        for value in others:
            mean = total / max(1, size)
            if size and better(mean, value) == mean:
                break
            total, size = total + value, size + 1
        return total / max(1, size)


@dataclass(frozen=True, eq=False)
class Gathered(_Growing):
    """Sum over the chosen of a number each, 0 or more, as a share of ``whole``; at most 1.

    With ``whole`` by ``most_gathered`` it is calibrated relevance: a budget filled as well as can be gives the
    relevance of the best candidate, an irrelevant pool little.
    """

    values: Array
    whole: float

    def __call__(self, selections: Sequence[Selection]) -> Array:
        padded = np.append(self.values, 0.0)
        total = np.zeros(len(selections))
        for column in _places(selections, len(self.values)).T:
            total += padded[column]
        return (total / (self.whole or 1.0)).clip(0.0, 1.0)


def most_gathered(values: Array, costs: Sequence[int], budget: int) -> float:
    """The largest sum of values / max(values) within a budget where candidates may be cut (fractional knapsack).

    Best value a token first (Dantzig 1957). At least 1 where any value is positive, so that one candidate larger than
    the budget leaves a scale.
    """
    best = float(values.max(initial=0.0))
    if best <= 0.0:
        return 1.0
    left, total = float(budget), 0.0
    for i in sorted(range(len(values)), key=lambda i: (-values[i] / max(1, costs[i]), i)):
        share = min(1.0, left / max(1, costs[i]))
        total += share * float(values[i]) / best
        left -= share * costs[i]
    return max(1.0, total)


@dataclass(frozen=True, eq=False)
class Redundancy(Term):
    """Similarity above a threshold, summed over the chosen pairs, a chosen candidate; at most 1.

    similarity (n, n) symmetric, at most 1, cosines or Jaccard indices;  threshold  in [0, 1): what is no repetition.
    Each pair counts (s - threshold) / (1 - threshold), 1 for equal texts: one copy among four chosen gives 1/4.
    """

    similarity: Array
    threshold: float = 0.5

    def __call__(self, selections: Sequence[Selection]) -> Array:
        total = _over_pairs(selections, self._excess, np.zeros(len(selections)), np.add)
        return (total / np.maximum(1, _sizes(selections))).clip(0.0, 1.0)

    @cached_property
    def _excess(self) -> Array:
        return np.maximum(0.0, (self.similarity - self.threshold) / (1.0 - self.threshold))

    def most(self, chosen: Selection, others: Sequence[int]) -> float:
        return 1.0

    def least(self, chosen: Selection, others: Sequence[int]) -> float:
        """The pairs that are there already, over the most that can be chosen."""
        now = float(self([chosen])[0])
        return now * len(chosen) / max(1, len(chosen) + len(others))


@dataclass(frozen=True, eq=False)
class Bridges(_Growing):
    """Chance that at least one chosen pair is a bridge: 1 - prod (1 - b_ij). Monotone, not submodular.

    strength (n, n) symmetric in [0, 1]: how sure it is that i and j together say more than each alone
    """

    strength: Array

    def __call__(self, selections: Sequence[Selection]) -> Array:
        return 1.0 - _over_pairs(selections, 1.0 - self.strength, np.ones(len(selections)), np.multiply)


@dataclass(frozen=True, eq=False)
class TokenCost(_Growing):
    """Share of the budget that a selection costs, separators and template included. ``cost`` is the problem's."""

    cost: Callable[[Selection], int]
    budget: int

    def __call__(self, selections: Sequence[Selection]) -> Array:
        spent = np.array([self.cost(selection) for selection in selections], dtype=np.float64)
        return (spent / max(1, self.budget)).clip(0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Disorder(Term):
    """Share of the chosen pairs that stand the other way round than ``position`` would have them (Kendall).

    position (n,): wanted place of each candidate in the prompt; equal ones may stand either way
    """

    position: Array

    def __call__(self, selections: Sequence[Selection]) -> Array:
        return np.array([self._share(selection) for selection in selections], dtype=np.float64)

    def _share(self, selection: Selection) -> float:
        places = self.position[list(selection)]
        pairs = [(a, b) for b in range(len(places)) for a in range(b)]
        return sum(bool(places[a] > places[b]) for a, b in pairs) / max(1, len(pairs))

    def most(self, chosen: Selection, others: Sequence[int]) -> float:
        return 1.0

    def least(self, chosen: Selection, others: Sequence[int]) -> float:
        return 0.0


def _places(selections: Sequence[Selection], n: int) -> NDArray[np.intp]:
    """(b, longest) candidates of each selection, filled up with n."""
    places = np.full((len(selections), max(map(len, selections), default=0)), n, dtype=np.intp)
    for row, selection in zip(places, selections, strict=True):
        row[: len(selection)] = selection
    return places


def _sizes(selections: Sequence[Selection]) -> Array:
    return np.array([len(selection) for selection in selections], dtype=np.float64)


def _over_pairs(selections: Sequence[Selection], pairs: Array, start: Array, combine: np.ufunc) -> Array:
    """``combine`` of pairs[i, j] over all chosen pairs, from ``start``, which is also what a filler gives."""
    n = len(pairs)
    padded = np.full((n + 1, n + 1), start[0] if len(start) else 0.0)
    padded[:n, :n] = pairs
    places = _places(selections, n)
    for b in range(places.shape[1]):
        for a in range(b):
            start = combine(start, padded[places[:, a], places[:, b]])
    return start
