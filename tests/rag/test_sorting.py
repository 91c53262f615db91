"""Pairwise sorters: exact for a perfect comparator, an end and a known order for any other, against plain twins."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.reranking.comparing import best_known
from rag.reranking.sorting import Compare, Memo, OutOfBudget, Pair, Sorted, allpair, heapsort, quickselect, sliding

Sorter = Callable[[int, int, Compare], Sorted]
SORTERS: dict[str, Sorter] = {
    "heapsort": heapsort,
    "batched heapsort": partial(heapsort, batched=True),
    "sliding": sliding,
    "quickselect": quickselect,
    "allpair": allpair,
}
every_sorter = pytest.mark.parametrize("sort", SORTERS.values(), ids=SORTERS)
PARTIAL = {name: sort for name, sort in SORTERS.items() if name != "allpair"}
every_partial_sorter = pytest.mark.parametrize("sort", PARTIAL.values(), ids=PARTIAL)


def preferring(relevance: Sequence[float]) -> Compare:
    """The more relevant of two wins."""
    return lambda pairs: [float((relevance[a] > relevance[b]) - (relevance[a] < relevance[b])) for a, b in pairs]


def tie(pairs: Sequence[Pair]) -> list[float]:
    return [0.0] * len(pairs)


def cyclic(n: int) -> Compare:
    """Each beats the (n - 1) / 2 documents after it, modulo n."""
    return lambda pairs: [1.0 if 0 < (b - a) % n <= n // 2 else -1.0 for a, b in pairs]


def tabled(n: int, outcomes: Iterable[int]) -> Compare:
    table = dict(zip([(a, b) for b in range(n) for a in range(b)], outcomes, strict=True))
    return lambda pairs: [float(table[a, b] if a < b else -table[b, a]) for a, b in pairs]


class Recorder:
    """A comparator that keeps the batches it was asked."""

    def __init__(self, compare: Compare) -> None:
        self.compare = compare
        self.batches: list[list[Pair]] = []

    def __call__(self, pairs: Sequence[Pair]) -> Sequence[float]:
        self.batches.append(list(pairs))
        return self.compare(pairs)

    @property
    def pairs(self) -> list[Pair]:
        return [pair for batch in self.batches for pair in batch]


class Limited:
    """A comparator for ``budget`` pairs; of the batch that goes beyond, it hands over what was paid for, or nothing."""

    def __init__(self, compare: Compare, budget: int, *, generous: bool = True) -> None:
        self.compare, self.budget, self.generous = compare, budget, generous

    def __call__(self, pairs: Sequence[Pair]) -> Sequence[float]:
        if len(pairs) > self.budget:
            raise OutOfBudget(self.compare(pairs[: self.budget]) if self.generous else ())
        self.budget -= len(pairs)
        return self.compare(pairs)


def lists(n: int) -> Iterable[list[float]]:
    """Relevance by first-stage rank: in order, reversed, nearly in order, at random."""
    rng = random.Random(n)
    yield [float(-rank) for rank in range(n)]
    yield [float(rank) for rank in range(n)]
    yield [-(rank + rng.gauss(0, n / 5)) for rank in range(n)]
    yield [rng.random() for _ in range(n)]


def best(relevance: Sequence[float], k: int) -> tuple[int, ...]:
    return tuple(sorted(range(len(relevance)), key=lambda rank: (-relevance[rank], rank))[:k])


def top_then_the_rest(top: Sequence[int], n: int) -> tuple[int, ...]:
    return (*top, *(rank for rank in range(n) if rank not in top))


# --- the plain versions, from the oracle's description ---


def plain_heapsort(n: int, k: int, beats: Callable[[int, int], bool]) -> list[int]:
    heap = list(range(n))
    top: list[int] = []

    def sift(at: int) -> None:
        best = at
        if 2 * at + 1 < len(heap) and beats(heap[2 * at + 1], heap[best]):
            best = 2 * at + 1
        if 2 * at + 2 < len(heap) and beats(heap[2 * at + 2], heap[best]):
            best = 2 * at + 2
        if best != at:
            heap[at], heap[best] = heap[best], heap[at]
            sift(best)

    for parent in reversed(range(n // 2)):
        sift(parent)
    while len(top) < min(k, n):
        top.append(heap[0])
        heap[0] = heap[-1]
        del heap[-1]
        if heap and len(top) < k:
            sift(0)
    return top


def plain_sliding(n: int, k: int, beats: Callable[[int, int], bool]) -> list[int]:
    """Full passes, nothing skipped."""
    order = list(range(n))
    for place in range(min(k, n)):
        for lower in reversed(range(place + 1, n)):
            if beats(order[lower], order[lower - 1]):
                order[lower - 1], order[lower] = order[lower], order[lower - 1]
    return order[:k]


def plain_allpair(n: int, beats: Callable[[int, int], bool]) -> list[float]:
    return [sum(1.0 if beats(i, j) else 0.0 if beats(j, i) else 0.5 for j in range(n) if j != i) for i in range(n)]


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[int, int, Compare]:
    """n, k and a comparator of fixed answers that need not fit together."""
    n = draw(st.integers(1, 14))
    outcomes = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=n * (n - 1) // 2, max_size=n * (n - 1) // 2))
    return n, draw(st.integers(1, n + 2)), tabled(n, outcomes)


@settings(deadline=None)
@given(comparisons())
def test_sorters_equal_their_plain_versions_whatever_the_answers(case: tuple[int, int, Compare]) -> None:
    n, k, compare = case

    def beats(a: int, b: int) -> bool:
        return compare([(a, b)])[0] > 0

    assert heapsort(n, k, compare).order == top_then_the_rest(plain_heapsort(n, k, beats), n)
    assert sliding(n, k, compare).order == top_then_the_rest(plain_sliding(n, k, beats), n)
    scores = plain_allpair(n, beats)
    assert allpair(n, k, compare).scores == tuple(scores)
    assert allpair(n, k, compare).order == best(scores, n)


# --- a perfect comparator ---


@every_partial_sorter
@pytest.mark.parametrize("n", range(1, 31))
def test_a_perfect_comparator_gives_the_exact_top_k_and_the_rest_in_first_stage_order(sort: Sorter, n: int) -> None:
    for relevance in lists(n):
        for k in range(1, n + 1):
            result = sort(n, k, preferring(relevance))
            assert result.order == top_then_the_rest(best(relevance, k), n)
            assert result.complete


@pytest.mark.parametrize("n", range(1, 31))
def test_allpair_ranks_all_documents_exactly_whatever_k_is(n: int) -> None:
    for relevance in lists(n):
        assert {allpair(n, k, preferring(relevance)).order for k in range(1, n + 1)} == {best(relevance, n)}


@every_sorter
def test_a_k_beyond_the_list_wants_the_whole_list(sort: Sorter) -> None:
    result = sort(4, 99, preferring([1, 4, 2, 3]))
    assert (result.order, result.places, result.settled, result.compared) == ((1, 3, 2, 0), 4, 4, 1.0)


@every_sorter
@pytest.mark.parametrize("n", [0, 1])
def test_nothing_is_asked_where_nothing_can_be_compared(sort: Sorter, n: int) -> None:
    def refuse(pairs: Sequence[Pair]) -> Sequence[float]:
        raise AssertionError(pairs)

    result = sort(n, 10, refuse)
    assert (result.order, result.comparisons, result.complete) == (tuple(range(n)), 0, True)


# --- comparators that do not fit together ---


@every_partial_sorter
def test_a_contrary_comparator_gives_the_exact_reverse(sort: Sorter) -> None:
    relevance = [5.0, 1.0, 4.0, 3.0, 0.0, 2.0, 7.0]
    assert sort(7, 7, preferring([-r for r in relevance])).order == best(relevance, 7)[::-1]
    assert allpair(7, 7, preferring([-r for r in relevance])).order == best(relevance, 7)[::-1]


@pytest.mark.parametrize("sort", [sliding, quickselect, allpair])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_ties_leave_first_stage_order(sort: Sorter, k: int) -> None:
    assert sort(9, k, tie).order == tuple(range(9))


def test_ties_in_a_heap_take_the_first_and_then_the_list_from_behind() -> None:
    assert heapsort(6, 6, tie).order == (0, 5, 4, 3, 2, 1)
    assert heapsort(6, 3, tie).order == (0, 5, 4, 1, 2, 3)


@every_sorter
@pytest.mark.parametrize("answer", [1.0, -1.0])
def test_a_comparator_that_goes_by_position_alone_ends(sort: Sorter, answer: float) -> None:
    """Not even u(a, b) = -u(b, a) holds here."""
    result = sort(25, 10, lambda pairs: [answer] * len(pairs))
    assert sorted(result.order) == list(range(25))
    assert result.complete


@pytest.mark.parametrize("n", [3, 9, 31])
def test_cycles_end_within_the_promised_comparisons(n: int) -> None:
    for k in (1, 2, n):
        results = {name: sort(n, k, cyclic(n)) for name, sort in SORTERS.items()}
        assert all(sorted(result.order) == list(range(n)) and result.complete for result in results.values())
        assert results["sliding"].comparisons <= k * (n - 1)
        assert results["quickselect"].comparisons <= n * (n - 1) // 2
        assert results["heapsort"].comparisons <= 2 * n + 2 * k * n.bit_length()
        assert results["allpair"].order == tuple(range(n))


# --- counts ---


def test_a_list_in_order_costs_sliding_one_pass() -> None:
    assert sliding(100, 10, preferring([-float(rank) for rank in range(100)])).comparisons == 99


def test_a_pass_starts_one_place_below_the_first_exchange_of_the_pass_before() -> None:
    """Relevance 4 2 3 1 0: the first exchange lifts 2 over 1 from place 2, so that pass 1 starts at place 3, not 4."""
    recorder = Recorder(preferring([4, 2, 3, 1, 0]))
    assert sliding(5, 5, recorder).order == (0, 2, 1, 3, 4)
    assert recorder.pairs == [(4, 3), (3, 2), (2, 1), (2, 0), (3, 1), (1, 2)]


NEARLY_SORTED = [
    [-(rank + random.Random(seed * 1000 + rank).gauss(0, 20)) for rank in range(100)] for seed in range(50)
]


def mean_comparisons(sort: Sorter) -> float:
    return sum(sort(100, 10, preferring(relevance)).comparisons for relevance in NEARLY_SORTED) / 50


def test_comparisons_for_ten_of_a_hundred_are_near_the_published_counts() -> None:
    assert mean_comparisons(heapsort) == pytest.approx(238, rel=0.05)
    assert mean_comparisons(sliding) == pytest.approx(928, rel=0.05)
    assert mean_comparisons(allpair) == 100 * 99 / 2
    assert mean_comparisons(quickselect) == pytest.approx(190, rel=0.05)


def batches(sort: Sorter) -> int:
    recorder = Recorder(preferring(NEARLY_SORTED[0]))
    sort(100, 10, recorder)
    return len(recorder.batches)


def test_what_does_not_depend_on_each_other_is_asked_at_once() -> None:
    assert batches(allpair) == 1
    assert batches(quickselect) <= 12
    one_by_one = heapsort(100, 10, preferring(NEARLY_SORTED[0])).comparisons
    assert batches(heapsort) == one_by_one
    assert batches(partial(heapsort, batched=True)) < 0.6 * one_by_one


@settings(deadline=None)
@given(comparisons())
def test_a_heap_built_by_levels_asks_the_same_pairs_for_the_same_order(case: tuple[int, int, Compare]) -> None:
    n, k, compare = case
    one_by_one, by_levels = Recorder(compare), Recorder(compare)
    assert heapsort(n, k, one_by_one) == heapsort(n, k, by_levels, batched=True)
    assert sorted(one_by_one.pairs) == sorted(by_levels.pairs)


# --- memory ---


@settings(deadline=None)
@given(comparisons())
def test_remembered_answers_change_no_result(case: tuple[int, int, Compare]) -> None:
    n, k, compare = case
    for sort in SORTERS.values():
        memo = Memo(compare)
        result = sort(n, k, memo)
        assert result == sort(n, k, compare)
        assert memo.comparisons == result.comparisons
        assert memo.computed <= min(result.comparisons, n * (n - 1) // 2)


def test_a_memo_asks_each_pair_once_lower_number_first() -> None:
    recorder = Recorder(lambda pairs: [0.5] * len(pairs))
    memo = Memo(recorder)
    assert memo([(1, 0), (0, 1), (2, 1)]) == [-0.5, 0.5, -0.5]
    assert memo([(1, 2), (1, 0)]) == [0.5, -0.5]
    assert recorder.batches == [[(0, 1), (1, 2)]]
    assert (memo.comparisons, memo.computed) == (5, 2)


def test_a_memo_that_is_cut_short_passes_on_what_it_knows() -> None:
    memo = Memo(Limited(preferring([3, 2, 1]), 2))
    assert memo([(0, 1)]) == [1.0]
    with pytest.raises(OutOfBudget) as stop:
        memo([(1, 0), (2, 0), (2, 1), (0, 1)])
    assert stop.value.answers == [-1.0, -1.0]
    assert (memo.comparisons, memo.computed) == (3, 2)


# --- allpair's laws ---


@settings(deadline=None)
@given(comparisons(), st.randoms(use_true_random=False))
def test_allpair_scores_add_up_and_move_with_the_documents(case: tuple[int, int, Compare], rng: random.Random) -> None:
    n, k, compare = case
    scores = allpair(n, k, compare).scores
    assert sum(scores) == n * (n - 1) / 2
    moved = rng.sample(range(n), n)
    permuted = allpair(n, k, lambda pairs: compare([(moved[a], moved[b]) for a, b in pairs])).scores
    assert list(permuted) == [scores[document] for document in moved]


# --- budgets ---


@every_sorter
@pytest.mark.parametrize("generous", [True, False])
@pytest.mark.parametrize("memo", [Memo, lambda compare: compare], ids=["memo", "bare"])
def test_any_budget_gives_all_documents_and_says_what_is_settled(
    sort: Sorter, generous: bool, memo: Callable[[Compare], Compare]
) -> None:
    compare = preferring([2, 9, 4, 1, 8, 3, 7, 0, 6, 5, 11, 10])
    whole = sort(12, 5, compare)
    computed = Memo(compare)
    sort(12, 5, computed)
    needed = whole.comparisons if memo is not Memo else computed.computed
    for budget in range(needed):
        cut = sort(12, 5, memo(Limited(compare, budget, generous=generous)))
        assert sorted(cut.order) == list(range(12))
        assert not cut.complete
        assert cut.compared == cut.settled / 5 < 1
        assert cut.order[: cut.settled] == whole.order[: cut.settled]
        assert sort is allpair or list(cut.order[5:]) == sorted(cut.order[5:])
    assert sort(12, 5, memo(Limited(compare, needed, generous=generous))) == whole


@settings(deadline=None)
@given(comparisons(), st.integers(0, 60))
def test_any_budget_gives_all_documents_whatever_the_answers(case: tuple[int, int, Compare], budget: int) -> None:
    n, k, compare = case
    for sort in SORTERS.values():
        whole = sort(n, k, compare)
        cut = sort(n, k, Limited(compare, budget))
        assert sorted(cut.order) == list(range(n))
        assert cut.complete == (budget >= whole.comparisons)
        assert cut.comparisons == min(budget, whole.comparisons)


@every_sorter
def test_without_any_answer_first_stage_order_stays(sort: Sorter) -> None:
    result = sort(6, 3, Limited(preferring([0, 1, 2, 3, 4, 5]), 0))
    assert (result.order, result.settled, result.compared, result.comparisons) == ((0, 1, 2, 3, 4, 5), 0, 0.0, 0)


def test_a_pass_cut_short_leaves_a_document_where_it_has_risen_to() -> None:
    """Document 4 has beaten 3 and 2 when the budget ends."""
    result = sliding(5, 5, Limited(preferring([0, 1, 2, 3, 4]), 2))
    assert result.order == (0, 1, 4, 2, 3)


def test_settled_places_stay_and_grow_with_the_budget() -> None:
    compare = preferring([1, 4, 2, 3])
    assert [sliding(4, 4, Limited(compare, budget)).settled for budget in range(7)] == [0, 0, 0, 1, 1, 2, 4]


def test_a_cut_allpair_has_ranked_the_first_documents_against_each_other() -> None:
    """Pairs (0,1) (0,2) (1,2) are answered: 2 1 0 among themselves, 3 and 4 stay behind; a score stays a win count."""
    result = allpair(5, 5, Limited(preferring([0, 1, 2, 3, 4]), 3))
    assert result.order == (2, 1, 0, 3, 4)
    assert result.scores == (0 + 2, 1 + 2, 2 + 2, 1, 0)


def test_contradicting_wins_put_the_last_in_first_stage_order_behind() -> None:
    assert best_known(4, [3], [(0, 1), (1, 2), (2, 0)]) == [3, 0, 1, 2]


# --- refusals ---


@every_sorter
@pytest.mark.parametrize(("answers", "says"), [([2.0], "2.0"), ([float("nan")], "nan"), ([0.0] * 2, "2 answers to 1")])
def test_answers_that_mean_nothing_are_refused(sort: Sorter, answers: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sort(2, 1, lambda _: answers)


@every_sorter
@pytest.mark.parametrize(("n", "k"), [(-1, 1), (3, 0)])
def test_a_list_or_a_k_out_of_range_is_refused(sort: Sorter, n: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"n = {n}, k = {k}"):
        sort(n, k, tie)
