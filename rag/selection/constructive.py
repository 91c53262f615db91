"""Searchers that build a selection up: budget fill, MMR order, greedy, beam, and random sets to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from rag.selection.evaluator import Ended, Evaluator
from rag.selection.problem import MIN_GAIN, Problem, Selection


def fill(evaluate: Evaluator) -> Ended:
    """Candidates by rank while they fit; a later and shorter one may still fit. One evaluation."""
    evaluate([filled(evaluate.problem, range(evaluate.problem.n))])
    return Ended()


def mmr(
    evaluate: Evaluator, relevance: NDArray[np.float64], similarity: NDArray[np.float64], lambda_: float = 0.7
) -> Ended:
    """Again and again the fitting candidate with the largest marginal relevance. One evaluation, at the end.

    relevance (n,), similarity (n, n). Carbonell & Goldstein, SIGIR 1998. Ties go to the better rank.
    """
    problem = evaluate.problem
    chosen: Selection = ()
    while fitting := [i for i in range(problem.n) if problem.feasible((*chosen, i))]:
        repeated = similarity[:, list(chosen)].max(axis=1, initial=0.0)
        chosen = (*chosen, max(fitting, key=lambda i: lambda_ * relevance[i] - (1.0 - lambda_) * repeated[i]))
    evaluate([chosen])
    return Ended()


def greedy(evaluate: Evaluator) -> Ended:
    """Again and again the candidate that gains most, until none gains. Ties go to the better rank."""
    climb(evaluate, per_token=False)
    return Ended()


def greedy_per_token(evaluate: Evaluator) -> Ended:
    """Again and again the candidate that gains most for a token it costs, until none gains."""
    climb(evaluate, per_token=True)
    return Ended()


def climb(evaluate: Evaluator, *, per_token: bool) -> Selection:
    """Where greedy ends, from the empty selection."""
    problem = evaluate.problem
    chosen: Selection = ()
    value = problem.empty
    while children := problem.extensions(chosen):
        values = evaluate(children)
        spent = problem.cost(chosen)
        scales = [max(1, problem.cost(child) - spent) if per_token else 1 for child in children]
        gains = [(new - value) / scale for new, scale in zip(values, scales, strict=True)]
        best = max(range(len(children)), key=gains.__getitem__)  # the first
        if values[best] <= value + MIN_GAIN:
            break
        chosen, value = children[best], values[best]
    return chosen


def beam(evaluate: Evaluator, width: int = 4) -> Ended:
    """The ``width`` best selections of each size extended by every candidate, also where that lowers the value.

    It goes on past a loss, unlike greedy: a bridge needs both its ends. Equal sets are one.
    """
    for _ in beam_levels(evaluate, width):
        pass
    return Ended()


def beam_levels(evaluate: Evaluator, width: int) -> Iterator[None]:
    """A beam that stops after each size, so that other searches can take their turns."""
    problem = evaluate.problem
    level: list[Selection] = [()]
    while children := list(dict.fromkeys(child for parent in level for child in problem.extensions(parent))):
        values = dict(zip(children, evaluate(children), strict=True))
        level = sorted(children, key=lambda child: (-values[child], child))[:width]
        yield


def random_sets(evaluate: Evaluator, seed: int = 0, draws: int = 20_000) -> Ended:
    """Random feasible selections: the candidates in random order, filled up to a random number of them."""
    problem, generator = evaluate.problem, np.random.default_rng(seed)
    largest = len(filled(problem, np.argsort(problem.costs, kind="stable").tolist()))
    if largest:
        for _ in range(draws):
            order = generator.permutation(problem.n).tolist()
            evaluate([filled(problem, order)[: int(generator.integers(1, largest + 1))]])
    return Ended()


def filled(problem: Problem, order: Iterable[int]) -> Selection:
    """The candidates in that order, each that still fits."""
    chosen: Selection = ()
    for i in order:
        if problem.feasible((*chosen, i)):
            chosen = (*chosen, i)
    return chosen
