"""Setwise sorters: exact for a perfect comparator, an end and a known order for any other."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.reranking.comparing import OutOfBudget, Sorted
from rag.reranking.set_sorting import Best, Group, Keep, field_sizes, group_count, heapsort, insertion, tourrank

Sorter = Callable[..., Sorted]
Game = tuple[Group, int]
every_sorter = pytest.mark.parametrize("sort", [heapsort, insertion])
every_width = pytest.mark.parametrize("children", [1, 2, 3, 9])


def best_by(relevance: Sequence[float]) -> Best:
    """The most relevant of a group, the first in first-stage order among equals."""
    return lambda groups: [max(range(len(g)), key=lambda p: (relevance[g[p]], -g[p])) for g in groups]


def keep_by(relevance: Sequence[float]) -> Keep:
    return lambda games: [tuple(sorted(g, key=lambda document: (-relevance[document], document))[:m]) for g, m in games]


class Recorder:
    """A set comparator that keeps the groups it was asked for."""

    def __init__(self, best: Best) -> None:
        self.best = best
        self.groups: list[Group] = []

    def __call__(self, groups: Sequence[Group]) -> Sequence[int]:
        self.groups += groups
        return self.best(groups)


class LimitedBest:
    """Answers ``budget`` groups and hands over what was paid for of the batch that goes beyond."""

    def __init__(self, best: Best, budget: int) -> None:
        self.best, self.budget = best, budget

    def __call__(self, groups: Sequence[Group]) -> Sequence[int]:
        if len(groups) > self.budget:
            raise OutOfBudget(self.best(groups[: self.budget]))
        self.budget -= len(groups)
        return self.best(groups)


class LimitedKeep:
    """The same for tournaments."""

    def __init__(self, keep: Keep, budget: int) -> None:
        self.keep, self.budget = keep, budget

    def __call__(self, games: Sequence[Game]) -> Sequence[Group]:
        if len(games) > self.budget:
            raise OutOfBudget(self.keep(games[: self.budget]))
        self.budget -= len(games)
        return self.keep(games)


def lists(n: int) -> Iterable[list[float]]:
    """Relevance by first-stage rank: in order, reversed, nearly in order, at random, in three grades."""
    rng = random.Random(n)
    yield [float(-rank) for rank in range(n)]
    yield [float(rank) for rank in range(n)]
    yield [-(rank + rng.gauss(0, n / 5)) for rank in range(n)]
    yield [rng.random() for _ in range(n)]
    yield [float(rng.randrange(3)) for _ in range(n)]


def top(relevance: Sequence[float], k: int) -> tuple[int, ...]:
    return tuple(sorted(range(len(relevance)), key=lambda rank: (-relevance[rank], rank))[:k])


def top_then_the_rest(first: Sequence[int], n: int) -> tuple[int, ...]:
    return (*first, *(rank for rank in range(n) if rank not in first))


# --- heapsort and insertion: a perfect comparator ---


@every_sorter
@every_width
@pytest.mark.parametrize("n", range(1, 31))
def test_a_perfect_comparator_gives_the_exact_top_k_even_among_equals(sort: Sorter, children: int, n: int) -> None:
    for relevance in lists(n):
        for k in range(1, n + 1):
            result = sort(n, k, best_by(relevance), children=children)
            assert result.order == top_then_the_rest(top(relevance, k), n)
            assert result.complete


@every_sorter
@every_width
def test_groups_come_in_first_stage_order_and_hold_two_to_children_plus_one(sort: Sorter, children: int) -> None:
    for relevance in lists(30):
        recorder = Recorder(best_by(relevance))
        assert sort(30, 7, recorder, children=children).comparisons == len(recorder.groups)
        assert all(list(group) == sorted(set(group)) for group in recorder.groups)
        assert {len(group) for group in recorder.groups} <= set(range(2, children + 2))


@every_sorter
@pytest.mark.parametrize("n", [0, 1])
def test_nothing_is_asked_where_nothing_can_be_compared(sort: Sorter, n: int) -> None:
    def refuse(groups: Sequence[Group]) -> Sequence[int]:
        raise AssertionError(groups)

    result = sort(n, 10, refuse)
    assert (result.order, result.comparisons, result.complete) == (tuple(range(n)), 0, True)


# --- comparators that do not fit together ---


@every_sorter
@every_width
def test_always_the_first_is_first_stage_order_and_always_the_last_its_reverse(sort: Sorter, children: int) -> None:
    first = sort(20, 6, lambda groups: [0] * len(groups), children=children)
    assert first.order == tuple(range(20))
    last = sort(20, 6, lambda groups: [len(group) - 1 for group in groups], children=children)
    assert last.order == (19, 18, 17, 16, 15, 14, *range(14))


@every_sorter
@every_width
@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), k=st.integers(1, 40))
def test_any_answers_end_in_all_documents(sort: Sorter, children: int, seed: int, n: int, k: int) -> None:
    rng = random.Random(seed)
    result = sort(n, k, lambda groups: [rng.randrange(len(group)) for group in groups], children=children)
    assert sorted(result.order) == list(range(n))
    assert list(result.order[k:]) == sorted(result.order[k:])
    assert result.complete
    assert result.comparisons <= 2 * n * (n + 1)


@every_sorter
@every_width
def test_cyclic_choices_end(sort: Sorter, children: int) -> None:
    """In a group, the winner is the one that most others of it precede by less than half the circle."""

    def around(groups: Sequence[Group]) -> list[int]:
        return [max(range(len(g)), key=lambda p: sum(0 < (other - g[p]) % 21 <= 10 for other in g)) for g in groups]

    result = sort(21, 21, around, children=children)
    assert sorted(result.order) == list(range(21))


# --- counts ---


def nearly_sorted(noise: float) -> list[list[float]]:
    return [[-(rank + random.Random(seed * 1000 + rank).gauss(0, noise)) for rank in range(100)] for seed in range(50)]


def mean_prompts(sort: Sorter, children: int, noise: float) -> float:
    return sum(sort(100, 10, best_by(r), children=children).comparisons for r in nearly_sorted(noise)) / 50


@pytest.mark.parametrize(("children", "prompts"), [(3, 76), (9, 30)])
def test_heap_prompts_for_ten_of_a_hundred_are_near_the_published_counts(children: int, prompts: int) -> None:
    assert mean_prompts(heapsort, children, 20) == pytest.approx(prompts, rel=0.05)


@pytest.mark.parametrize(("children", "prompts"), [(3, 69), (9, 30)])
def test_heap_prompts_for_a_list_in_order_are_the_published_counts(children: int, prompts: int) -> None:
    in_order = best_by([float(-rank) for rank in range(100)])
    assert heapsort(100, 10, in_order, children=children).comparisons == prompts


@pytest.mark.parametrize("children", [3, 9])
@pytest.mark.parametrize("noise", [1, 5])
def test_insertion_needs_fewer_prompts_than_a_heap_on_nearly_sorted_lists(children: int, noise: float) -> None:
    assert mean_prompts(insertion, children, noise) < mean_prompts(heapsort, children, noise)


def test_insertion_scans_a_list_in_order_once() -> None:
    recorder = Recorder(best_by([float(-rank) for rank in range(9)]))
    assert insertion(9, 2, recorder, children=3).order == tuple(range(9))
    assert recorder.groups == [(0, 1), (1, 2, 3, 4), (1, 5, 6, 7), (1, 8)]


def test_insertion_bubbles_past_groups_and_then_looks_for_the_exact_place() -> None:
    """Document 5 beats 4; of 2 3 5 the best is 5, of 0 1 5 it is 0, of 1 5 it is 5: between 0 and 1."""
    recorder = Recorder(best_by([10, 8, 7, 6, 5, 9]))
    assert insertion(6, 5, recorder, children=2).order == (0, 5, 1, 2, 3, 4)
    assert recorder.groups[-4:] == [(4, 5), (2, 3, 5), (0, 1, 5), (1, 5)]


# --- budgets ---


@every_sorter
@every_width
def test_any_budget_gives_all_documents_and_says_what_is_settled(sort: Sorter, children: int) -> None:
    best = best_by([2, 9, 4, 1, 8, 3, 7, 0, 6, 5, 11, 10])
    whole = sort(12, 5, best, children=children)
    for budget in range(whole.comparisons):
        cut = sort(12, 5, LimitedBest(best, budget), children=children)
        assert sorted(cut.order) == list(range(12))
        assert (cut.complete, cut.comparisons) == (False, budget)
        assert cut.order[: cut.settled] == whole.order[: cut.settled]
        assert list(cut.order[5:]) == sorted(cut.order[5:])
    assert sort(12, 5, LimitedBest(best, whole.comparisons), children=children) == whole


def test_an_insertion_cut_short_puts_what_beat_the_kth_in_its_place() -> None:
    """0 ... 3 are sorted in three prompts to 3 1 2 0; in the fourth, 5 is the best of 0 4 5 6."""
    cut = insertion(9, 4, LimitedBest(best_by([1, 3, 2, 4, 5, 9, 8, 7, 6]), 4))
    assert (cut.order, cut.settled) == ((3, 1, 2, 5, 0, 4, 6, 7, 8), 0)


# --- tournaments ---


def test_a_hundred_documents_play_the_published_stages_in_13_prompts() -> None:
    games: list[Game] = []

    def keep(asked: Sequence[Game]) -> Sequence[Group]:
        games.extend(asked)
        return keep_by([float(-rank) for rank in range(100)])(asked)

    result = tourrank(100, 10, keep)
    assert field_sizes(100) == [100, 50, 20, 10, 5, 2]
    assert [(len(group), left) for group, left in games] == [*[(20, 10)] * 5, *[(10, 4)] * 5, (20, 10), (10, 5), (5, 2)]
    assert sorted(games[1][0]) == list(range(1, 100, 5))
    assert (result.comparisons, result.complete, sum(result.scores)) == (13, True, 50 + 20 + 10 + 5 + 2)


@pytest.mark.parametrize("n", [*range(2, 131), 399, 1000])
def test_every_field_is_dealt_into_groups_of_at_most_20_of_which_some_survive(n: int) -> None:
    games: list[Game] = []

    def keep(asked: Sequence[Game]) -> Sequence[Group]:
        games.extend(asked)
        return keep_by([float(rank) for rank in range(n)])(asked)

    result = tourrank(n, 2, keep)
    assert all(1 <= left < len(group) <= 20 for group, left in games)
    assert sum(len(group) for group, _ in games) == sum(field_sizes(n)[:-1])
    assert len(games) == sum(group_count(size) for size in field_sizes(n)[:-1])
    assert result.order == ((n - 2, n - 1) if n > 2 else (1, 0)) + tuple(range(n - 2) if n > 2 else ())


@pytest.mark.parametrize("n", range(3, 60))
def test_the_two_best_lead_every_list_for_a_perfect_comparator(n: int) -> None:
    for relevance in lists(n):
        result = tourrank(n, 5, keep_by(relevance), tournaments=3, seed=n)
        assert set(result.order[:2]) == set(top(relevance, 2))
        assert list(result.order[5:]) == sorted(result.order[5:])


def test_the_seed_alone_decides_the_order_inside_the_groups() -> None:
    def first_shown(games: Sequence[Game]) -> Sequence[Group]:
        return [group[:left] for group, left in games]

    same = [tourrank(60, 10, first_shown, tournaments=4, seed=7) for _ in range(2)]
    assert same[0] == same[1]
    assert same[0] != tourrank(60, 10, first_shown, tournaments=4, seed=8)


def test_tournaments_are_played_side_by_side_and_add_up() -> None:
    batches: list[int] = []

    def keep(games: Sequence[Game]) -> Sequence[Group]:
        batches.append(len(games))
        return keep_by([float(rank) for rank in range(100)])(games)

    result = tourrank(100, 10, keep, tournaments=10)
    assert batches == [50, 50, 10, 10, 10]
    assert result.scores[99] == 10 * 5


@pytest.mark.parametrize("n", [0, 1])
def test_a_tournament_of_nobody_or_one_asks_nothing(n: int) -> None:
    result = tourrank(n, 3, lambda games: pytest.fail(f"asked {games}"))
    assert (result.order, result.comparisons, result.complete) == (tuple(range(n)), 0, True)


def test_any_budget_gives_a_tournament_of_all_documents() -> None:
    keep = keep_by([float(rank) for rank in range(45)])
    whole = tourrank(45, 6, keep, tournaments=2)
    for budget in range(whole.comparisons):
        cut = tourrank(45, 6, LimitedKeep(keep, budget), tournaments=2)
        assert sorted(cut.order) == list(range(45))
        assert (cut.complete, cut.settled, cut.comparisons) == (False, 0, budget)
        assert list(cut.order[6:]) == sorted(cut.order[6:])
    assert tourrank(45, 6, LimitedKeep(keep, whole.comparisons), tournaments=2) == whole


@pytest.mark.parametrize(("budget", "points"), [(4, 0), (5, 50), (9, 50), (10, 100), (11, 100), (15, 100 + 20)])
def test_a_stage_cut_short_counts_only_where_all_groups_were_judged(budget: int, points: int) -> None:
    """Two tournaments of 100: five groups each keep 50 together, then five each keep 20."""
    cut = tourrank(100, 10, LimitedKeep(keep_by([float(rank) for rank in range(100)]), budget), tournaments=2)
    assert sum(cut.scores) == points


# --- refusals ---


@every_sorter
@pytest.mark.parametrize(("answers", "says"), [([3], "3 is no answer"), ([-1], "-1 is no"), ([], "0 answers to 1")])
def test_positions_outside_the_group_are_refused(sort: Sorter, answers: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sort(3, 3, lambda _: answers)


@pytest.mark.parametrize("kept", [(0,), (0, 0), (0, 9), (0, 1, 2)])
def test_survivors_that_are_not_so_many_of_the_group_are_refused(kept: Group) -> None:
    with pytest.raises(ValueError, match="is no answer"):
        tourrank(4, 2, lambda games: [kept for _ in games])


@pytest.mark.parametrize("sort", [heapsort, insertion, tourrank])
@pytest.mark.parametrize(("n", "k"), [(-1, 1), (3, 0)])
def test_a_list_or_a_k_out_of_range_is_refused(sort: Sorter, n: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"n = {n}, k = {k}"):
        sort(n, k, lambda _: [])


def test_groups_without_children_and_no_tournaments_are_refused() -> None:
    with pytest.raises(ValueError, match="children = 0"):
        heapsort(3, 1, best_by([1, 2, 3]), children=0)
    with pytest.raises(ValueError, match="tournaments = 0"):
        tourrank(3, 1, keep_by([1, 2, 3]), tournaments=0)
