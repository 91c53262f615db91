"""Local search: add, drop, swap and, where order counts, exchange, until no move helps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rag.selection.constructive import climb, filled
from rag.selection.evaluator import Ended, Evaluator
from rag.selection.problem import MIN_GAIN, Problem, Selection


def local_search(evaluate: Evaluator, restarts: int = 200, seed: int = 0) -> Ended:
    """Greedy, climbed to its local optimum, then ``restarts`` shaken copies of the best, each climbed again."""
    polish(evaluate, climb(evaluate, per_token=False))
    shaken = shake(evaluate, seed)
    for _ in range(restarts):
        polish(evaluate, next(shaken))
    return Ended()


def polish(evaluate: Evaluator, start: Selection) -> Selection:
    """The local optimum that ``start`` climbs to: the best move of the first neighbourhood that holds a better one."""
    here = start
    (value,) = evaluate([here])
    moved = True
    while moved:
        moved = False
        for moves in neighbourhoods(evaluate.problem, here):
            values = evaluate(moves)
            best = max(range(len(moves)), key=values.__getitem__)  # the first
            if values[best] > value + MIN_GAIN:
                here, value, moved = moves[best], values[best], True
                break
    return here


def neighbourhoods(problem: Problem, selection: Selection) -> Iterator[list[Selection]]:
    """Feasible moves in batches, none empty: one dropped or added; for each chosen one its swaps; all exchanges."""
    dropped = [selection[:at] + selection[at + 1 :] for at in range(len(selection))]
    yield from _states(problem, dropped + problem.extensions(selection))
    others = [i for i in range(problem.n) if i not in selection]
    for at in range(len(selection)):
        yield from _states(problem, [(*selection[:at], i, *selection[at + 1 :]) for i in others])
    if problem.ordered:
        pairs = [(a, b) for b in range(len(selection)) for a in range(b)]
        yield from _states(problem, [_exchanged(selection, a, b) for a, b in pairs])


def shake(evaluate: Evaluator, seed: int) -> Iterator[Selection]:
    """Without end, by turns: the best with up to half of it replaced by random candidates, and a random selection."""
    problem, generator = evaluate.problem, np.random.default_rng(seed)
    while True:
        best = evaluate.best
        dropped = set(generator.permutation(len(best))[: int(generator.integers(1, len(best) // 2 + 2))].tolist())
        kept = tuple(i for at, i in enumerate(best) if at not in dropped)
        others = [i for i in generator.permutation(problem.n).tolist() if i not in best]
        yield problem.canonical(filled(problem, [*kept, *others])[: len(kept) + int(generator.integers(0, 3))])
        anything = filled(problem, generator.permutation(problem.n).tolist())
        yield problem.canonical(anything[: int(generator.integers(0, len(anything) + 1))])


def _states(problem: Problem, selections: list[Selection]) -> Iterator[list[Selection]]:
    states = [problem.canonical(selection) for selection in selections if problem.feasible(selection)]
    if states:
        yield states


def _exchanged(selection: Selection, a: int, b: int) -> Selection:
    swapped = list(selection)
    swapped[a], swapped[b] = swapped[b], swapped[a]
    return tuple(swapped)
