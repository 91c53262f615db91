"""Exact search for small pools: every feasible state, less the branches that a bound rules out."""

from __future__ import annotations

from collections.abc import Iterator

from rag.selection.evaluator import Ended, Evaluator
from rag.selection.problem import Problem, Selection


def exact(evaluate: Evaluator) -> Ended:
    """All feasible states by size; with ``problem.bound`` a branch and bound, depth first, the best child first.

    2^n states at most where order does not count, the sum of n!/(n-k)! where it does.
    """
    if evaluate.problem.bound is not None:
        _branch(evaluate, ())
    else:
        level: list[Selection] = [()]
        while level:
            level = [child for chosen in level for child in branches(evaluate.problem, chosen)]
            evaluate(level)
    return Ended(optimal=True)


def branches(problem: Problem, chosen: Selection) -> Iterator[Selection]:
    """Feasible selections with one more candidate, such that every state is reached exactly once."""
    longer = ((*chosen, i) for i in range(_first(problem, chosen), problem.n))
    return (child for child in longer if problem.feasible(child))


def _branch(evaluate: Evaluator, chosen: Selection) -> None:
    problem = evaluate.problem
    assert problem.bound is not None, "a branch is cut by a bound"
    children = list(branches(problem, chosen))
    for value, child in sorted(zip(evaluate(children), children, strict=True), key=lambda pair: (-pair[0], pair[1])):
        if problem.bound(child, _others(problem, child)) > max(value, evaluate.value):
            _branch(evaluate, child)


def _first(problem: Problem, chosen: Selection) -> int:
    return 0 if problem.ordered or not chosen else chosen[-1] + 1


def _others(problem: Problem, chosen: Selection) -> list[int]:
    """What may still come below a branch."""
    left = problem.budget - problem.cost(chosen) - problem.separator
    return [i for i in range(_first(problem, chosen), problem.n) if i not in chosen and problem.costs[i] <= left]
