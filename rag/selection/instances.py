"""Random problems to test searchers on: near-duplicates, bridge pairs, hard negatives, and a tight budget."""

from __future__ import annotations

from functools import partial

import numpy as np

from rag.selection.problem import Problem, prompt_tokens
from rag.selection.terms import Average, Bridges, Coverage, Disorder, Redundancy, TokenCost
from rag.selection.utility import WeightedSum

SEPARATOR, TEMPLATE = 2, 8


def instance(seed: int, n: int, *, ordered: bool = False) -> Problem:
    """One problem with ``n`` candidates in rank order; the same for the same arguments.

    About 40 % of the candidates are good, a fifth copies of a good one, a fifth ends of a bridge, which cover little
    alone, and a fifth hard negatives: ranked high, of no use and harmful. The budget holds three to six of them.
    """
    draw = np.random.default_rng([seed, n, ordered])
    aspects = 6
    kinds = draw.choice(4, size=n, p=[0.4, 0.2, 0.2, 0.2])
    matches = draw.random((aspects, n)) * (draw.random((aspects, n)) < 0.35)
    relevance = draw.uniform(0.3, 0.9, n)
    harm = np.zeros(n)
    similarity = draw.uniform(0.0, 0.3, (n, n))
    strength = np.zeros((n, n))
    good, ends = np.flatnonzero(kinds == 0), np.flatnonzero(kinds == 2)
    for i in np.flatnonzero(kinds == 1):
        if len(good):
            original = draw.choice(good)
            matches[:, i] = (matches[:, original] * draw.uniform(0.9, 1.0)).clip(0.0, 1.0)
            similarity[i, original] = draw.uniform(0.8, 1.0)
    for i, j in zip(ends[::2], ends[1::2], strict=False):
        strength[i, j] = draw.uniform(0.5, 1.0)
        matches[:, [i, j]] *= 0.3
    for i in np.flatnonzero(kinds == 3):
        matches[:, i] *= 0.1
        relevance[i] = draw.uniform(0.7, 1.0)
        harm[i] = draw.uniform(0.5, 1.0)
    rank = np.argsort(-relevance, kind="stable")
    costs = tuple(int(cost) for cost in draw.integers(80, 260, n))
    budget = int(draw.uniform(3.0, 6.0) * 170)
    cost = partial(prompt_tokens, costs=costs, separator=SEPARATOR, template=TEMPLATE)
    symmetric = np.maximum(similarity, similarity.T)[np.ix_(rank, rank)]
    np.fill_diagonal(symmetric, 1.0)
    utility = WeightedSum(
        (
            (0.6, Coverage(draw.uniform(0.5, 2.0, aspects), matches[:, rank])),
            (0.15, Average(relevance[rank])),
            (0.25, Bridges(np.maximum(strength, strength.T)[np.ix_(rank, rank)])),
            (-0.3, Redundancy(symmetric, 0.5)),
            (-0.4, Average(harm[rank])),
            (-0.1, TokenCost(cost, budget)),
            (-0.1 if ordered else 0.0, Disorder(draw.permutation(n).astype(np.float64))),
        )
    )
    return Problem(
        costs=costs,
        budget=budget,
        utility=utility,
        separator=SEPARATOR,
        template=TEMPLATE,
        ordered=ordered,
        bound=utility.bound,
    )
