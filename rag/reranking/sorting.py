"""Sorters that find the k best of n documents by comparing two at a time (pairwise ranking prompting).

Documents are the integers 0 ... n-1, each number being the first-stage rank. A sorter puts the min(k, n) best first
and all others behind them in first-stage order; only ``allpair`` ranks the whole list. No sorter trusts the comparator
to be consistent: whether preferences are cyclic, biased or all ties, it ends and returns all n documents. A comparator
that may not go on raises ``OutOfBudget``; what comes back then is the best order known. Qin et al., NAACL 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, islice, takewhile
from typing import TypeVar

from rag.reranking.comparing import (
    Asked,
    Compare,
    Memo,
    OutOfBudget,
    Pair,
    Preference,
    Sorted,
    ranked,
    wanted_places,
    while_in_budget,
)

__all__ = [
    "Compare",
    "Memo",
    "OutOfBudget",
    "Pair",
    "Preference",
    "Sorted",
    "allpair",
    "heapsort",
    "quickselect",
    "sliding",
]

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Sift = Generator[Question, Answer, None]
"""One element on its way down a heap: yields a question, is sent the answer."""
Ask = Callable[[Sequence[Pair]], Sequence[Preference]]


def heapsort(n: int, k: int, compare: Compare, *, batched: bool = False) -> Sorted:
    """The k best by a binary max-heap, with the mechanics of the pairwise ranker of ielab/llm-rankers.

    O(n + k log n) comparisons, about 238 for k = 10 of 100 nearly sorted documents. Exact for a strict total order.
    A tie is no win, yet the sort is not stable: all ties give 0, n-1, n-2, ...; cyclic answers give what the
    mechanics make of them. ``batched`` builds the heap a level at a time: same order and count, another sequence.
    """
    return _pairwise(n, k, compare, lambda places, ask: heap_places(n, places, 2, _sift, ask, batched=batched))


def sliding(n: int, k: int, compare: Compare) -> Sorted:
    """The k best by k bubble passes of neighbours from the bottom (PRP-Sliding-K).

    At most k(n-1) comparisons, n-1 for a list in order: a pass starts one place below the first exchange of the pass
    before, and a pass without an exchange is the last. Exact for a strict total order. A tie exchanges nothing, so
    that all ties leave first-stage order; cyclic answers end after k passes at the latest.
    """
    return _pairwise(n, k, compare, lambda places, ask: _sliding(n, places, ask))


def quickselect(n: int, k: int, compare: Compare) -> Sorted:
    """The k best by splitting the list at a pivot, all splits of a level in one batch (Wisznia et al., ACL 2025).

    About 190 comparisons in 7 batches for k = 10 of 100 nearly sorted documents; n(n-1)/2 at the very most. Exact for
    a strict total order; a tie with the pivot is settled by first-stage rank, so that all ties leave first-stage
    order. Cyclic answers end too, as every level takes a pivot out of each part.
    """
    return _pairwise(n, k, compare, lambda places, ask: _quickselect(n, places, ask))


def allpair(n: int, k: int, compare: Compare) -> Sorted:
    """All n documents by wins + 0.5 x ties over all pairs (PRP-Allpair), equal scores in first-stage order.

    n(n-1)/2 comparisons in one batch; k is only what ``settled`` counts. The scores add up to n(n-1)/2 and do not
    depend on the first-stage order. Exact for a strict total order; where nobody leads (all ties, a full cycle)
    first-stage order stays. An unanswered pair counts for the higher-ranked one. Pairs come by their lower-ranked
    document: a batch cut short has compared the first documents with each other and left the others in place.
    """
    places, asked = wanted_places(n, k), Asked(compare, _is_preference)
    with suppress(OutOfBudget):
        asked([(a, b) for b in range(n) for a in range(b)])
    scores = [float(n - 1 - rank) for rank in range(n)]
    for (a, b), preference in asked.answered:
        lost = 0.0 if preference > 0 else 1.0 if preference < 0 else 0.5
        scores[a] -= lost
        scores[b] += lost
    return Sorted(
        order=tuple(sorted(range(n), key=lambda rank: (-scores[rank], rank))),
        places=places,
        settled=places if len(asked.answered) == n * (n - 1) // 2 else 0,
        comparisons=len(asked.answered),
        scores=tuple(scores),
    )


def heap_places(
    n: int,
    places: int,
    children: int,
    sift: Callable[[list[int], int], Sift[Question, Answer]],
    ask: Callable[[Sequence[Question]], Sequence[Answer]],
    *,
    batched: bool,
) -> Iterator[int]:
    """The first ``places`` documents off a heap over 0 ... n-1, best first, each as soon as it is settled.

    sift  moves the element at a place down by questions; sifts of one level touch different elements and may be asked
          together. There is no sift behind the last place.
    """
    heap = list(range(n))
    for level in _levels(n, children, batched=batched):
        _together([sift(heap, at) for at in level], ask)
    for _ in range(places - 1):
        yield heap[0]
        heap[0] = heap[-1]
        heap.pop()
        _together([sift(heap, 0)], ask)
    yield from heap[: min(places, 1)]


def _levels(n: int, children: int, *, batched: bool) -> list[range]:
    """The places that have children, from the last up: level by level, or one by one."""
    parents = (n - 2) // children + 1
    if not batched:
        return [range(at, at + 1) for at in reversed(range(parents))]
    levels, start = [], 0
    while start < parents:
        following = children * start + 1
        levels.append(range(start, min(following, parents)))
        start = following
    return levels[::-1]


def _together(sifts: Iterable[Sift[Question, Answer]], ask: Callable[[Sequence[Question]], Sequence[Answer]]) -> None:
    """Runs sifts side by side, one batch holding the next question of each."""
    asking = {sift: question for sift in sifts for question in islice(sift, 1)}
    while asking:
        answers = ask(list(asking.values()))
        sent = zip(asking, answers, strict=True)
        asking = {sift: question for sift, answer in sent for question in _next_question(sift, answer)}


def _next_question(sift: Sift[Question, Answer], answer: Answer) -> list[Question]:
    try:
        return [sift.send(answer)]
    except StopIteration:
        return []


def _pairwise(n: int, k: int, compare: Compare, winners: Callable[[int, Ask], Iterator[int]]) -> Sorted:
    places, asked = wanted_places(n, k), Asked(compare, _is_preference)
    settled = while_in_budget(winners(places, asked))
    wins = [(a, b) if preference > 0 else (b, a) for (a, b), preference in asked.answered if preference]
    return ranked(n, places, settled, wins, len(asked.answered))


def _is_preference(_: Pair, preference: Preference) -> bool:
    return -1 <= preference <= 1


def _sift(heap: list[int], at: int) -> Sift[Pair, Preference]:
    """Asks whether the left child beats the element, then whether the right child beats the better of both."""
    while True:
        best = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(heap) and (yield heap[child], heap[best]) > 0:
                best = child
        if best == at:
            return
        heap[at], heap[best] = heap[best], heap[at]
        at = best


def _sliding(n: int, places: int, ask: Ask) -> Iterator[int]:
    order, start = list(range(n)), n - 1
    for place in range(places):
        exchanges = []
        for lower in range(start, place, -1):
            if ask([(order[lower], order[lower - 1])])[0] > 0:
                order[lower - 1], order[lower] = order[lower], order[lower - 1]
                exchanges.append(lower)
        if not exchanges:
            yield from order[place:places]
            return
        yield order[place]
        start = min(exchanges[0] + 1, n - 1)


def _quickselect(n: int, places: int, ask: Ask) -> Iterator[int]:
    """Splits all parts that reach into the places, level by level; a part of one document is settled.

    The pivot stands at twice the wanted places, at most in the middle: in a nearly sorted list little is left before
    it, yet enough (fewest comparisons of six choices tried, at noise 0, 5, 20 and in random order).
    """
    parts = [list(range(n))]
    while places:
        starts = accumulate(map(len, parts), initial=0)
        reaching = [(part, places - start) for part, start in zip(parts, starts, strict=False) if start < places]
        splits = [(part, part[min(2 * wanted, len(part) // 2)]) for part, wanted in reaching]
        pairs = [(document, pivot) for part, pivot in splits for document in part if document != pivot]
        before = {
            document
            for (document, pivot), preference in zip(pairs, ask(pairs), strict=True)
            if preference > 0 or (preference == 0 and document < pivot)
        }
        parts = [piece for part, pivot in splits for piece in _split(part, pivot, before) if piece]
        singles = list(takewhile(lambda part: len(part) == 1, parts))[:places]
        yield from (document for [document] in singles)
        parts, places = parts[len(singles) :], places - len(singles)


def _split(part: Sequence[int], pivot: int, before: set[int]) -> tuple[list[int], list[int], list[int]]:
    behind = [document for document in part if document not in before and document != pivot]
    return [document for document in part if document in before], [pivot], behind
