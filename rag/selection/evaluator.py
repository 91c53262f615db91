"""One memo, one set of limits and one best-so-far for a search, whatever searchers take part in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

from rag.selection.problem import MIN_GAIN, Limits, Problem, Result, Selection, Step, TreeNode


class OutOfBudget(Exception):
    """Raised by an evaluator that reached a limit; it never leaves ``solve``."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a searcher says when it comes to its own end: whether it accounted for every feasible state."""

    optimal: bool = False


class Evaluator:
    """Values of selections, each state computed once (a transposition table) and within the limits.

    best, value   the best selection valued so far, by more than MIN_GAIN, and its value; the empty one at first
    evaluations   states valued;  tokens  that a model read for them
    tree          gives the tree as it stands; set by a searcher that grows one
    memoise       False: each request is a new evaluation, as in the published scheme
    """

    def __init__(
        self,
        problem: Problem,
        limits: Limits,
        *,
        memoise: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.problem = problem
        self.best: Selection = ()
        self.value = problem.empty
        self.evaluations = self.tokens = 0
        self.curve = [Step(0, problem.empty)]
        self.tree: Callable[[], tuple[TreeNode, ...]] = tuple
        self._known: dict[Selection, float] = {(): problem.empty}
        self._limits, self._memoise, self._clock = limits, memoise, clock
        self._deadline = math.inf if limits.seconds is None else clock() + limits.seconds

    def __call__(self, selections: Sequence[Selection]) -> list[float]:
        """The value of each. Raises OutOfBudget when a limit is in the way; what was valued before it is kept."""
        states = [self.problem.canonical(selection) for selection in selections]
        new = list(dict.fromkeys(state for state in states if not self._memoise or state not in self._known))
        while new:
            part = new[: self._allowed(new)]
            if not part:
                raise OutOfBudget
            self._compute(part)
            new = new[len(part) :]
        return [self._known[state] for state in states]

    def known(self, selection: Selection) -> float | None:
        """The value of a selection that was valued, None for another."""
        return self._known.get(self.problem.canonical(selection))

    def _allowed(self, states: Sequence[Selection]) -> int:
        """How many of the first states the limits still allow, a batch at most."""
        if self._clock() >= self._deadline:
            return 0
        limits = self._limits
        most = limits.batch if limits.evaluations is None else min(limits.batch, limits.evaluations - self.evaluations)
        if limits.tokens is None:
            return most
        reads = accumulate(self.problem.reads(state) for state in states[:most])
        return sum(self.tokens + total <= limits.tokens for total in reads)

    def _compute(self, states: Sequence[Selection]) -> None:
        assert all(map(self.problem.feasible, states)), "searchers make feasible selections only"
        values = self.problem.utility(states)
        if len(values) != len(states):
            raise ValueError(f"the utility gave {len(values)} values for {len(states)} selections")
        for state, number in zip(states, values, strict=True):
            value = float(number)
            if not math.isfinite(value):
                raise ValueError(f"the utility of {state} is {value}; it must be a finite number")
            self.evaluations += 1
            self.tokens += self.problem.reads(state)
            self._known[state] = value
            if value > self.value + MIN_GAIN:
                self.best, self.value = state, value
                self.curve.append(Step(self.evaluations, value, state))


Searcher = Callable[[Evaluator], Ended]
"""A search over ``evaluator.problem``. What it proposes depends on values alone, never on a limit: more evaluations
continue the same search, and the best of a longer one is never worse."""


def solve(
    problem: Problem,
    searcher: Searcher,
    limits: Limits | None = None,
    *,
    memoise: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """The best selection that a searcher values within the limits; the empty one where nothing is better."""
    evaluator = Evaluator(problem, limits or Limits(), memoise=memoise, clock=clock)
    ended: Ended | None = None
    with suppress(OutOfBudget):
        ended = searcher(evaluator)
    return Result(
        chosen=evaluator.best,
        value=evaluator.value,
        evaluations=evaluator.evaluations,
        tokens=evaluator.tokens,
        curve=tuple(evaluator.curve),
        complete=ended is not None,
        optimal=ended is not None and ended.optimal,
        tree=evaluator.tree(),
    )
