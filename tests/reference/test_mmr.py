"""Maximal marginal relevance against the greedy choice spelled out over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.selection.mmr import pick

DIMENSION = 3
component = st.integers(-3, 3)
vector = st.tuples(*[component] * DIMENSION)


def dot(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True))


def plain_pick(
    query: tuple[int, ...], vectors: list[tuple[int, ...]], cost: list[int], budget: int, lambda_: float
) -> list[int]:
    """Every round looks at every pair anew. Whole numbers, so that no sum is rounded."""
    chosen: list[int] = []
    while True:
        best: tuple[float, int] | None = None
        for i in range(len(vectors)):
            if i in chosen or cost[i] + sum(cost[j] for j in chosen) > budget:
                continue
            redundancy = max((dot(vectors[i], vectors[j]) for j in chosen), default=0)
            value = lambda_ * dot(query, vectors[i]) - (1 - lambda_) * redundancy
            if best is None or value > best[0]:
                best = (value, i)
        if best is None:
            return chosen
        chosen.append(best[1])


@given(
    query=vector,
    rows=st.lists(st.tuples(vector, st.integers(0, 4)), max_size=7),
    budget=st.integers(0, 12),
    lambda_=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
)
def test_picks_what_the_exhaustive_greedy_choice_picks(
    query: tuple[int, ...], rows: list[tuple[tuple[int, ...], int]], budget: int, lambda_: float
) -> None:
    vectors, cost = [row for row, _ in rows], [price for _, price in rows]
    matrix = np.array(vectors, dtype=np.float32).reshape(len(vectors), DIMENSION)
    fast = pick(np.array(query, dtype=np.float32), matrix, cost, budget, lambda_)
    assert fast == plain_pick(query, vectors, cost, budget, lambda_)


@pytest.mark.parametrize(("lambda_", "expected"), [(1.0, [0, 1, 2]), (0.5, [0, 1, 2]), (0.2, [0, 2, 1])])
def test_by_hand(lambda_: float, expected: list[int]) -> None:
    """q . c = 0.96, 0.936, 0.352; c0 . c1 = 0.8, c0 . c2 = 0.6.

    After c0, at lambda 0.5: c1 has 0.5 * 0.936 - 0.5 * 0.8 = 0.068, c2 has 0.5 * 0.352 - 0.5 * 0.6 = -0.124;
    at lambda 0.2:           c1 has 0.2 * 0.936 - 0.8 * 0.8 = -0.4528, c2 has 0.2 * 0.352 - 0.8 * 0.6 = -0.4096.
    """
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, -0.8]], dtype=np.float32)
    assert pick(np.array([0.96, 0.28], dtype=np.float32), vectors, [1, 1, 1], 3, lambda_) == expected


def test_a_chunk_opposite_to_the_chosen_one_is_rewarded_for_it() -> None:
    """After c0 = (1, 0): c1 = (0, 1) has 0.5 * 0.2 - 0.5 * 0 = 0.1, c2 = (-1, 0) has 0.5 * -0.5 - 0.5 * -1 = 0.25."""
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=np.float32)
    assert pick(np.array([0.5, 0.2], dtype=np.float32), vectors, [1, 1, 1], 3, 0.5)[:2] == [0, 2]
