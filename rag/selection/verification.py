"""Whether the searchers do what they claim, on random problems: exactness, regret, limits and laws."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from rag.selection.evaluator import Searcher, solve
from rag.selection.exact import exact
from rag.selection.instances import instance
from rag.selection.portfolio import BASELINES, SEARCHERS
from rag.selection.problem import Limits, Problem, Result
from rag.selection.verification_laws import LAWS, TOLERANCE

COMPARED = ("portfolio", "tree", "local search", "beam", "greedy", "greedy per token", "fill", "random", "corag")
ALL = Limits(evaluations=None, batch=4096)


@dataclass(frozen=True, slots=True)
class Check:
    """One claim: what was measured, and whether it holds."""

    name: str
    passed: bool
    figures: str


@dataclass(frozen=True, slots=True)
class Regret:
    """How far a searcher stays below the optimum after so many evaluations.

    mean, p95  of (optimum - value) / optimum over the instances;  optimal  share of them without regret
    """

    searcher: str
    n: int
    ordered: bool
    evaluations: int
    instances: int
    mean: float
    p95: float
    optimal: float


@dataclass(frozen=True, slots=True)
class Report:
    """All checks and the table of regrets."""

    checks: tuple[Check, ...]
    regrets: tuple[Regret, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Instances of one size, and where the curves are read. The last point is the searchers' limit."""

    n: int
    instances: int
    points: tuple[int, ...]
    ordered: bool = False
    largest_mean: float = 0.005
    largest_p95: float = 0.08


SIZES = (
    Size(n=12, instances=100, points=(50, 100, 200, 400)),
    Size(n=18, instances=40, points=(100, 200, 400, 800)),
    Size(n=30, instances=12, points=(200, 400, 800, 1200), largest_mean=0.03, largest_p95=0.1),
    Size(n=7, instances=40, points=(50, 100, 200, 400), ordered=True),
)


def verify(
    *, small: int = 200, sizes: Sequence[Size] = SIZES, laws_on: int = 40, seed: int = 0, searcher: str = "portfolio"
) -> Report:
    """Every check of ``searcher`` on seeded random problems; the same report for the same arguments, save seconds.

    small    instances with n <= 8 for exactness;  laws_on  instances for each law
    """
    started = time.perf_counter()
    chosen = SEARCHERS[searcher]
    checks = [_exactness(searcher, chosen, small, seed)]
    regrets: list[Regret] = []
    for size in sizes:
        table, found = _compared(searcher, size, seed)
        regrets += table
        checks += found
    checks += [Check(name, *law(chosen, laws_on, seed)) for name, law in LAWS.items()]
    return Report(tuple(checks), tuple(regrets), time.perf_counter() - started)


def optimum(problem: Problem) -> Result:
    """The best of all feasible states."""
    return solve(replace(problem, bound=None), exact, ALL)


def _exactness(name: str, searcher: Searcher, count: int, seed: int) -> Check:
    """As many evaluations as there are states suffice for the optimum."""
    missed = 0
    for i in range(count):
        problem = instance(seed + i, 1 + i % 8, ordered=i % 8 < 5 and i % 3 == 0)
        best = optimum(problem)
        found = solve(problem, searcher, Limits(evaluations=best.evaluations))
        bounded = solve(problem, exact, ALL)
        missed += abs(found.value - best.value) > TOLERANCE or abs(bounded.value - best.value) > TOLERANCE
    figures = f"{count - missed} of {count} instances with n <= 8 optimal, by {name} and by branch and bound"
    return Check("exact on small pools", missed == 0, figures)


def _compared(name: str, size: Size, seed: int) -> tuple[list[Regret], list[Check]]:
    problems = [instance(seed + i, size.n, ordered=size.ordered) for i in range(size.instances)]
    best = [optimum(problem).value for problem in problems]
    names = dict.fromkeys((name, *COMPARED))
    limits = Limits(evaluations=size.points[-1])
    searchers = {**SEARCHERS, **BASELINES}
    runs = {
        other: [solve(problem, searchers[other], limits, memoise=other != "corag") for problem in problems]
        for other in names
    }
    table = [_regret(other, size, point, runs[other], best) for other in names for point in size.points]
    last = next(row for row in table if (row.searcher, row.evaluations) == (name, size.points[-1]))
    kind = f"n = {size.n}{', ordered' if size.ordered else ''}"
    return table, [
        Check(
            f"regret, {kind}",
            last.mean <= size.largest_mean and last.p95 <= size.largest_p95,
            f"mean {last.mean:.2%} (at most {size.largest_mean:.1%}), p95 {last.p95:.2%}, "
            f"{last.optimal:.0%} optimal at {last.evaluations} evaluations",
        ),
        _never_below_greedy(kind, runs[name], runs["greedy"], size.points),
        _anytime(kind, runs),
        _feasible(kind, problems, runs),
    ]


def _regret(name: str, size: Size, point: int, runs: Sequence[Result], best: Sequence[float]) -> Regret:
    pairs = zip(runs, best, strict=True)
    shares = np.array([(top - run.at(point)) / top if top > TOLERANCE else 0.0 for run, top in pairs])
    optimal = float(np.mean(shares * np.array(best) <= TOLERANCE))
    mean, p95 = float(shares.mean()), float(np.percentile(shares, 95))
    return Regret(name, size.n, size.ordered, point, len(runs), mean, p95, optimal)


def _never_below_greedy(kind: str, runs: Sequence[Result], greedy: Sequence[Result], points: Sequence[int]) -> Check:
    """At no point of the curve: an equal limit never gives less."""
    margins = [
        run.at(point) - other.at(point)
        for run, other in zip(runs, greedy, strict=True)
        for point in (*points, *(step.evaluations for step in other.curve))
    ]
    worse = sum(margin < 0.0 for margin in margins)
    return Check(f"never below greedy, {kind}", worse == 0, f"{worse} of {len(margins)} comparisons below")


def _anytime(kind: str, runs: dict[str, list[Result]]) -> Check:
    falls = sum(
        later.value <= earlier.value or later.evaluations <= earlier.evaluations
        for results in runs.values()
        for run in results
        for earlier, later in pairwise(run.curve)
    )
    return Check(f"curves rise, {kind}", falls == 0, f"{falls} falls in the curves of {len(runs)} searchers")


def _feasible(kind: str, problems: Sequence[Problem], runs: dict[str, list[Result]]) -> Check:
    count, broken = 0, 0
    for results in runs.values():
        for problem, run in zip(problems, results, strict=True):
            selections = [run.chosen, *(node.selection for node in run.tree)]
            count += len(selections)
            broken += sum(not problem.feasible(selection) for selection in selections)
    return Check(f"within the budget, {kind}", broken == 0, f"{broken} of {count} selections and tree nodes too large")
