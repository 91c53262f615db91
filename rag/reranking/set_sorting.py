"""Sorters that find the k best of n documents by naming the best, or the better half, of a small group (setwise).

Documents are 0 ... n-1 by first-stage rank; the contract is that of ``rag.reranking.sorting``, with a prompt for a
comparison: the min(k, n) best first, all others in first-stage order, an end for any comparator, the best order known
where it raises ``OutOfBudget``. ``heapsort`` and ``insertion`` show each group in first-stage order. A comparator that
prefers the first of equals is therefore consistent, and so is one that goes by position: always the first is the
first-stage order, always the last its reverse.

The published bubble sort is left out: its rule for what a pass may skip is unsound. A perfect comparator gets the exact
first 10 of 20 documents in about half of all lists, and some prompts hold no passage (ielab/llm-rankers b36517b).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, pairwise

from rag.reranking.comparing import Asked, OutOfBudget, Sorted, ranked, wanted_places, while_in_budget
from rag.reranking.sorting import Sift, heap_places

Group = tuple[int, ...]
Best = Callable[[Sequence[Group]], Sequence[int]]
"""For each group, the position in it of its best document. May raise OutOfBudget."""
Keep = Callable[[Sequence[tuple[Group, int]]], Sequence[Group]]
"""For each (group, m), the m documents of the group that survive, in any order. May raise OutOfBudget."""
Ask = Callable[[Sequence[Group]], Sequence[int]]


def heapsort(n: int, k: int, best: Best, *, children: int = 3) -> Sorted:
    """The k best by a heap whose elements have ``children`` children, one prompt for an element and its children.

    About 76 prompts with 3 children and 30 with 9 for k = 10 of 100 nearly sorted documents. The heap is built a level
    at a time. Exact for a consistent comparator; cyclic choices give what the heap makes of them. Zhuang et al.,
    SIGIR 2024; mechanics of ielab/llm-rankers.
    """
    return _setwise(n, k, best, children, lambda places, ask: _heap(n, places, children, ask))


def insertion(n: int, k: int, best: Best, *, children: int = 3) -> Sorted:
    """The k best by sorting the first k, then scanning the others in groups of ``children`` against the k-th.

    A list in order costs the heap sort of k documents and (n-k)/children prompts: 45 for k = 10 of 100 with 3 children,
    where ``heapsort`` takes 69. It gains on nearly sorted lists only; in random order it takes more (130 for 82). The
    best of a group that beats the k-th is inserted by bubbling; the others of its group come again. Nothing is settled
    before the scan ends. Exact for a consistent comparator; for any other it ends, as every prompt of the scan uses up
    a document. Podolak et al., SIGIR 2025; where LeonPeric/llm-rankers stops bubbling somewhere inside a group, the
    exact place is looked for.
    """
    return _setwise(n, k, best, children, lambda places, ask: _insertion(n, places, children, ask))


def tourrank(n: int, k: int, keep: Keep, *, tournaments: int = 1, seed: int = 0) -> Sorted:
    """The k documents with most points, equal points in first-stage order; a point for every group survived.

    A tournament deals the field by rank into groups of at most 20, keeps about the better half of each group and goes
    on until two are left: 100, 50, 20, 10, 5, 2 documents in 13 prompts, the published stages, for n = 100. All
    tournaments run side by side, a stage in one batch, and differ only in the seeded order inside the groups. Not an
    exact sort: even from a perfect comparator only the two best documents are sure to lead. It ends whatever survives.
    A stage cut short by the budget counts in those tournaments that finished it. Chen et al., WWW 2025 (TourRank).
    """
    if tournaments < 1:
        raise ValueError(f"tournaments = {tournaments}; at least 1 is needed")
    places, asked = wanted_places(n, k), Asked(keep, _are_survivors)
    shuffle = random.Random(seed)  # noqa: S311
    fields = [list(range(n)) for _ in range(tournaments)]
    points = [0] * n
    complete = False
    with suppress(OutOfBudget):
        for size, left in pairwise(field_sizes(n)):
            fields = _stage(fields, group_count(size), left, asked, shuffle, points)
        complete = True
    order = sorted(range(n), key=lambda document: (-points[document], document))
    return Sorted(
        order=(*order[:places], *sorted(order[places:])),
        places=places,
        settled=places if complete else 0,
        comparisons=len(asked.answered),
        scores=tuple(map(float, points)),
    )


def field_sizes(n: int) -> list[int]:
    """How many documents a tournament of n has before each stage and after the last.

    Each is the largest of 1, 2, 5, 10, 20, 50 ... that is at most half of the one before, but at least 2; two
    documents play a game for one place only where there are no others.
    """
    sizes = [n]
    while sizes[-1] > 2:
        steps = (digit * 10**zeros for zeros in range(len(str(n))) for digit in (1, 2, 5))
        sizes.append(max(2, max(step for step in steps if 2 * step <= sizes[-1])))
    return [2, 1] if n == 2 else sizes


def group_count(size: int) -> int:
    """One group of up to 20 documents; five of a larger field, or as many as keep groups within 20."""
    return 1 if size <= 20 else max(5, -(-size // 20))


def _stage(
    fields: Sequence[Sequence[int]],
    groups: int,
    left: int,
    asked: Asked[tuple[Group, int], Group],
    shuffle: random.Random,
    points: list[int],
) -> list[list[int]]:
    """The next fields, in first-stage order. Adds a point to ``points`` for every survivor."""
    games = [game for field in fields for game in _deal(field, groups, left, shuffle)]
    before = len(asked.answered)
    try:
        survivors = asked(games)
    finally:
        answered = asked.answered[before:]
        for _, kept in answered[: len(answered) // groups * groups]:
            for document in kept:
                points[document] += 1
    return [sorted(chain.from_iterable(survivors[at : at + groups])) for at in range(0, len(games), groups)]


def _deal(field: Sequence[int], groups: int, left: int, shuffle: random.Random) -> Iterator[tuple[Group, int]]:
    """Groups by position modulo their number, each in random order and with its share of the ``left`` survivors."""
    for number in range(groups):
        group = field[number::groups]
        yield tuple(shuffle.sample(group, len(group))), left // groups + (number < left % groups)


def _are_survivors(game: tuple[Group, int], kept: Group) -> bool:
    group, count = game
    return len(kept) == len(set(kept)) == count and set(kept) <= set(group)


def _setwise(n: int, k: int, best: Best, children: int, winners: Callable[[int, Ask], Iterator[int]]) -> Sorted:
    if children < 1:
        raise ValueError(f"children = {children}; a group holds a document and at least 1 other")
    places, asked = wanted_places(n, k), Asked(best, _is_position)
    settled = while_in_budget(winners(places, asked))
    wins = [(group[first], other) for group, first in asked.answered for other in group if other != group[first]]
    return ranked(n, places, settled, wins, len(asked.answered))


def _is_position(group: Group, position: int) -> bool:
    return 0 <= position < len(group)


def _heap(n: int, places: int, children: int, ask: Ask) -> Iterator[int]:
    return heap_places(n, places, children, partial(_sift, children), ask, batched=True)


def _sift(children: int, heap: list[int], at: int) -> Sift[Group, int]:
    """Asks for the best of an element and its children, until the element is it or has none."""
    while family := range(children * at + 1, min(children * at + children + 1, len(heap))):
        group = tuple(sorted((heap[at], *(heap[place] for place in family))))
        winner = group[(yield group)]
        if winner == heap[at]:
            return
        child = heap.index(winner, family.start)
        heap[at], heap[child] = heap[child], heap[at]
        at = child


def _insertion(n: int, places: int, children: int, ask: Ask) -> Iterator[int]:
    top = list(_heap(places, places, children, ask))
    queue = list(range(places, n))
    while queue:
        scanned, queue = queue[:children], queue[children:]
        winner = _best((top[-1], *scanned), ask)
        if winner != top[-1]:
            top.pop()
            top.insert(_place(winner, top, children, ask), winner)
            queue = [document for document in scanned if document != winner] + queue
    yield from top


def _place(new: int, top: Sequence[int], step: int, ask: Ask) -> int:
    """Where ``new`` belongs in ``top``: up past ``step`` documents a prompt until one is better, then by halving."""
    low, high = 0, len(top)
    while low < high:
        start = max(low, high - step)
        winner = _best((*top[start:high], new), ask)
        if winner == new:
            high = start
        else:
            low = top.index(winner, start) + 1
        step = (high - low + 1) // 2 if low else step
    return low


def _best(group: Group, ask: Ask) -> int:
    shown = tuple(sorted(group))
    return shown[ask([shown])[0]]
