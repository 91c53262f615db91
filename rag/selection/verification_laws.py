"""Laws that a searcher of chunk sets must obey. Each gives whether it holds and what was counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count as count_from

import numpy as np

from rag.selection.corag import corag
from rag.selection.evaluator import Searcher, solve
from rag.selection.exact import exact
from rag.selection.instances import instance
from rag.selection.problem import MIN_GAIN, Limits, Problem, Selection, Utility
from rag.selection.terms import Coverage
from rag.selection.utility import WeightedSum

Law = Callable[[Searcher, int, int], tuple[bool, str]]
"""searcher, instances, seed -> whether the law holds, figures."""
TOLERANCE = 2 * MIN_GAIN
ALL = Limits(evaluations=None)


def deterministic(searcher: Searcher, count: int, seed: int) -> tuple[bool, str]:
    """Two runs agree in the selection, the curve and the tree, whatever the batch size."""
    differ = 0
    for i in range(count):
        problem = instance(seed + i, 12, ordered=i % 2 == 1)
        runs = [solve(problem, searcher, Limits(evaluations=200, batch=batch)) for batch in (64, 64, 7)]
        differ += any(run != runs[0] for run in runs)
    return differ == 0, f"{differ} of {count} instances differ between runs or batch sizes"


def edges(searcher: Searcher, count: int, seed: int) -> tuple[bool, str]:
    """Nothing to choose from, no budget, one candidate too large, all harmful: nothing is chosen."""
    small = instance(seed, 5)
    n_none = Problem(costs=(), budget=100, utility=_never)
    too_large = Problem(costs=(100,), budget=101, utility=_never, template=2)
    harmful = replace(small, utility=lambda batch: [-0.1 * len(selection) for selection in batch], bound=None)
    problems = (n_none, replace(small, budget=0), replace(small, most=0), too_large, harmful)
    chosen = [solve(problem, searcher, ALL).chosen for problem in problems]
    return not any(chosen), f"chosen: {chosen}"


def additive(searcher: Searcher, count: int, seed: int) -> tuple[bool, str]:
    """A sum of worths is a knapsack; without a budget every candidate of positive worth is taken."""
    wrong = 0
    for draw in _draws(seed, count):
        worth = [float(value) for value in draw.integers(-5, 20, 8)]
        costs = tuple(int(cost) for cost in draw.integers(1, 12, 8))
        problem = Problem(costs=costs, budget=25, utility=_sum_of(worth))
        best = knapsack(worth, costs, 25)
        wrong += abs(solve(problem, searcher, ALL).value - best) > TOLERANCE
        free = solve(replace(problem, budget=1000), searcher, ALL)
        wrong += free.chosen != tuple(i for i in range(8) if worth[i] > 0)
    return wrong == 0, f"{wrong} of {2 * count} results differ from the knapsack's"


def submodular(searcher: Searcher, count: int, seed: int) -> tuple[bool, str]:
    """At least 1 - 1/e of the best coverage, as greedy guarantees for equal costs."""
    least = 1.0
    for draw in _draws(seed, count):
        matches = draw.random((10, 14)) * (draw.random((10, 14)) < 0.3)
        coverage = Coverage(np.ones(10), matches)
        problem = Problem(costs=(1,) * 14, budget=4, utility=WeightedSum(((1.0, coverage),)))
        best = solve(problem, exact, Limits(evaluations=None, batch=4096)).value
        least = min(least, solve(problem, searcher, Limits(evaluations=60)).value / best if best else 1.0)
    return least >= 1.0 - 1.0 / math.e, f"least share of the optimum {least:.3f} at 60 evaluations"


def shuffled(searcher: Searcher, count: int, seed: int) -> tuple[bool, str]:
    """Candidates in another order, enough evaluations: the same set."""
    differ = 0
    for i, draw in enumerate(_draws(seed, count)):
        problem = instance(seed + i, 8)
        order = [int(i) for i in draw.permutation(problem.n)]
        utility = _renamed(problem.utility, order)
        other = replace(problem, costs=tuple(problem.costs[i] for i in order), utility=utility, bound=None)
        found = solve(other, searcher, ALL).chosen
        differ += {order[i] for i in found} != set(solve(problem, searcher, ALL).chosen)
    return differ == 0, f"{differ} of {count} instances give another set"


def scaled(searcher: Searcher, count: int, seed: int) -> tuple[bool, str]:
    """a U + b gives the choice of U at a tight limit, a and b being exact in binary. CORAG's choice changes."""
    changed = _changed_by_scale(searcher, count, seed, memoise=True)
    published = _changed_by_scale(corag, count, seed, memoise=False)
    return changed == 0, f"{changed} of {count} choices change with a U + b; {published} of the published scheme's"


def distracted(searcher: Searcher, count: int, seed: int) -> tuple[bool, str]:
    """One more candidate, of harm only, never lowers what is reached with enough evaluations."""
    lower = 0
    for i in range(count):
        problem = instance(seed + i, 7)
        other = replace(problem, costs=(*problem.costs, 50), utility=_with_harm(problem.utility, problem.n), bound=None)
        before, after = (solve(p, searcher, ALL) for p in (problem, other))
        lower += after.value < before.value - TOLERANCE or problem.n in after.chosen
    return lower == 0, f"{lower} of {count} instances lose by a distractor"


def limited(searcher: Searcher, count: int, seed: int) -> tuple[bool, str]:
    """Evaluations and tokens are never exceeded, batches never larger, the time by one evaluation at most."""
    broken, late = 0, 0
    for i in range(count):
        sizes: list[int] = []
        problem = instance(seed + i, 12)
        watched = replace(problem, utility=_watched(problem.utility, sizes), reads=problem.cost)
        for most in (0, 1, 13, 60):
            broken += solve(watched, searcher, Limits(evaluations=most, batch=5)).evaluations != most
        broken += solve(watched, searcher, Limits(evaluations=None, tokens=5000, batch=5)).tokens > 5000
        broken += max(sizes, default=0) > 5
        timed = solve(watched, searcher, Limits(seconds=20.5, batch=1), clock=partial(next, count_from(0.0)))
        late += timed.evaluations > 21
    return broken + late == 0, f"{broken} limits exceeded, {late} of {count} searches late by more than one evaluation"


LAWS: dict[str, Law] = {
    "deterministic": deterministic,
    "nothing to gain": edges,
    "additive utility": additive,
    "submodular utility": submodular,
    "order of candidates": shuffled,
    "scale of the utility": scaled,
    "distractor": distracted,
    "limits": limited,
}


def knapsack(worth: Sequence[float], costs: Sequence[int], budget: int) -> float:
    """The most that candidates within the budget are worth together, by dynamic programming."""
    best = [0.0] * (budget + 1)
    for value, cost in zip(worth, costs, strict=True):
        for room in range(budget, cost - 1, -1):
            best[room] = max(best[room], best[room - cost] + value)
    return best[budget]


def _changed_by_scale(searcher: Searcher, count: int, seed: int, *, memoise: bool) -> int:
    changed = 0
    for i in range(count):
        problem = instance(seed + i, 12)
        other = replace(problem, utility=_affine(problem.utility, 8.0, 3.0), empty=3.0, bound=None)
        limits = Limits(evaluations=150)
        first, second = (solve(p, searcher, limits, memoise=memoise).chosen for p in (problem, other))
        changed += first != second
    return changed


def _draws(seed: int, count: int) -> Iterator[np.random.Generator]:
    return (np.random.default_rng([seed, i]) for i in range(count))


def _never(selections: Sequence[Selection]) -> list[float]:
    raise AssertionError(f"{selections} cannot be valued: nothing is feasible")


def _sum_of(worth: Sequence[float]) -> Utility:
    return lambda batch: [sum(worth[i] for i in selection) for selection in batch]


def _renamed(utility: Utility, order: Sequence[int]) -> Utility:
    return lambda batch: utility([tuple(sorted(order[i] for i in selection)) for selection in batch])


def _affine(utility: Utility, a: float, b: float) -> Utility:
    return lambda batch: [a * value + b for value in utility(batch)]


def _with_harm(utility: Utility, distractor: int) -> Utility:
    """The utility without the distractor, less 0.2 with it; alone it is worth -0.2."""

    def value(selection: Selection) -> float:
        others = tuple(i for i in selection if i != distractor)
        return (utility([others])[0] if others else 0.0) - 0.2 * (distractor in selection)

    return lambda batch: [value(selection) for selection in batch]


def _watched(utility: Utility, sizes: list[int]) -> Utility:
    def value(batch: Sequence[Selection]) -> Sequence[float]:
        sizes.append(len(batch))
        return utility(batch)

    return value
