"""Windows over a long list, and one scale for their scores."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.reranking.windows import ANCHORS, link, plan


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(60, 200))
def test_every_document_is_read_and_every_window_fits(costs: list[int], room: int) -> None:
    windows = plan(costs, room)
    assert {i for window in windows for i in window} == set(range(len(costs)))
    assert all(sum(costs[i] for i in window) <= room for window in windows)
    assert all(list(window) == sorted(set(window)) for window in windows)


def test_one_window_where_all_fit() -> None:
    assert plan([10] * 5, 50) == [(0, 1, 2, 3, 4)]


def test_a_document_that_fits_nowhere_is_left_out() -> None:
    assert plan([10, 99, 10], 50) == [(0, 2)]
    assert plan([99], 50) == []
    assert plan([], 50) == []


def test_windows_share_their_anchors_and_begin_with_the_best() -> None:
    windows = plan([10] * 30, 100)
    shared = set(windows[0]).intersection(*windows)
    assert shared == {0, 10, 19, 29}
    assert len(shared) == ANCHORS
    assert windows[0] == (0, 1, 2, 3, 4, 5, 6, 10, 19, 29)


@given(st.integers(0, 10**6), st.integers(6, 80))
def test_a_rising_affine_map_a_window_gives_the_order_of_one_prompt(seed: int, documents: int) -> None:
    chance = random.Random(seed)
    relevance = [chance.uniform(-1, 1) for _ in range(documents)]
    windows = plan([10] * documents, 60)
    scores = []
    for window in windows:
        slope, offset = chance.uniform(0.2, 5), chance.uniform(-3, 3)
        scores.append([slope * relevance[i] + offset for i in window])
    linked = link(windows, scores)
    assert sorted(linked, key=lambda i: -linked[i]) == sorted(range(documents), key=lambda i: -relevance[i])


def test_scores_of_separate_windows_alone_would_not() -> None:
    """The mistake this is for: 0.9 in a window of poor documents is not more than 0.5 among good ones."""
    windows = [(0, 1, 2, 3), (0, 2, 4, 5)]
    relevance = [4.0, 3.0, 2.0, 1.0, 0.5, 0.25]
    scores = [[relevance[i] for i in windows[0]], [10 * relevance[i] + 7 for i in windows[1]]]
    linked = link(windows, scores)
    assert sorted(linked, key=lambda i: -linked[i]) == [0, 1, 2, 3, 4, 5]


def test_anchors_that_say_nothing_only_shift() -> None:
    linked = link([(0, 1, 2), (0, 1, 3)], [[1.0, 1.0, 5.0], [3.0, 3.0, 4.0]])
    assert linked == pytest.approx({0: 2.0, 1: 2.0, 2: 6.0, 3: 3.0})


def test_anchors_in_the_opposite_order_only_shift() -> None:
    linked = link([(0, 1, 2), (0, 1, 3)], [[2.0, 0.0, 9.0], [1.0, 2.0, 9.0]])
    assert linked[2] == pytest.approx(0.25 * 9.0 + 1.0)  # its anchors agree with the mean: stretched
    assert linked[3] == pytest.approx(9.0 - 1.5 + 1.25)  # its anchors do not: shifted


def test_no_window_no_scores() -> None:
    assert link([], []) == {}
