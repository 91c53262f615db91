"""What a sorter asks, what it knows from the answers, and the ranking it hands back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Generic, TypeVar

Pair = tuple[int, int]
Preference = float
"""u(a, b) in [-1, 1]: above 0 a wins, below 0 b wins, 0 is a tie. u(a, b) = -u(b, a)."""
Compare = Callable[[Sequence[Pair]], Sequence[Preference]]
"""One preference for each pair of a batch, in its order. May raise OutOfBudget."""

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class OutOfBudget(Exception):
    """Raised by a comparator that reached its deadline or limit; it never leaves a sorter.

    answers  to the first ``len(answers)`` questions of the batch, which were paid for before the stop
    """

    def __init__(self, answers: Sequence[Any] = ()) -> None:
        super().__init__(f"stopped after {len(answers)} answers")
        self.answers = answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """A ranking of n documents and what it cost.

    order        all n documents, best first
    places       min(k, n), the places that were asked for
    settled      how many of these, from the first on, can no longer change
    comparisons  questions that were answered (two prompts each if the comparator asks in both orders)
    scores       one a document, by number, from a sorter that adds up scores; empty from the others
    """

    order: tuple[int, ...]
    places: int
    settled: int
    comparisons: int
    scores: tuple[float, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the sorter came to its end before the budget did."""
        return self.settled == self.places

    @property
    def compared(self) -> float:
        """The share of the wanted places that is settled, in [0, 1]."""
        return self.settled / self.places if self.places else 1.0


class Memo:
    """A Compare that computes each unordered pair once, lower number first, and turns the sign for the other order.

    comparisons  pairs that were asked for and answered
    computed     distinct pairs that the comparator behind it answered
    """

    def __init__(self, compare: Compare) -> None:
        self.comparisons = 0
        self._compare = compare
        self._known: dict[Pair, Preference] = {}

    @property
    def computed(self) -> int:
        return len(self._known)

    def __call__(self, pairs: Sequence[Pair]) -> list[Preference]:
        ordered = [(min(pair), max(pair)) for pair in pairs]
        fresh = [pair for pair in dict.fromkeys(ordered) if pair not in self._known]
        try:
            self._known |= zip(fresh, self._compare(fresh) if fresh else (), strict=True)
        except OutOfBudget as stop:
            self._known |= zip(fresh, stop.answers, strict=False)
            answerable = list(takewhile(self._known.__contains__, ordered))
            raise OutOfBudget(self._answers(pairs[: len(answerable)])) from stop
        return self._answers(pairs)

    def _answers(self, pairs: Sequence[Pair]) -> list[Preference]:
        self.comparisons += len(pairs)
        return [self._known[a, b] if a < b else -self._known[b, a] for a, b in pairs]


class Asked(Generic[Question, Answer]):
    """A comparator that keeps what it answered, also when it is cut short, and refuses answers out of range."""

    def __init__(
        self, ask: Callable[[Sequence[Question]], Sequence[Answer]], valid: Callable[[Question, Answer], bool]
    ) -> None:
        self.answered: list[tuple[Question, Answer]] = []
        self._ask = ask
        self._valid = valid

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        if not questions:
            return []
        try:
            answers = list(self._ask(questions))
        except OutOfBudget as stop:
            self._keep(zip(questions, stop.answers, strict=False))
            raise
        if len(answers) != len(questions):
            raise ValueError(f"{len(answers)} answers to {len(questions)} questions; a comparator answers each once")
        self._keep(zip(questions, answers, strict=True))
        return answers

    def _keep(self, answered: Iterable[tuple[Question, Answer]]) -> None:
        for question, answer in answered:
            if not self._valid(question, answer):
                raise ValueError(f"{answer!r} is no answer to {question!r}; the comparator's type says what is")
            self.answered.append((question, answer))


def wanted_places(n: int, k: int) -> int:
    """min(k, n). Raises ValueError where n < 0 or k < 1."""
    if n < 0 or k < 1:
        raise ValueError(f"n = {n}, k = {k}; n is at least 0 and k at least 1")
    return min(k, n)


def while_in_budget(winners: Iterator[int]) -> list[int]:
    """The winners that came before the comparator ran out of budget, in their order."""
    settled: dict[int, None] = {}
    with suppress(OutOfBudget):
        for winner in winners:
            settled[winner] = None
    return list(settled)


def ranked(n: int, places: int, settled: Sequence[int], wins: Iterable[Pair], comparisons: int) -> Sorted:
    """The settled documents, then the likeliest for the other places, then the rest in first-stage order."""
    top = settled if len(settled) == places else best_known(n, settled, wins)[:places]
    rest = sorted(set(range(n)).difference(top))
    return Sorted(order=(*top, *rest), places=places, settled=len(settled), comparisons=comparisons)


def best_known(n: int, settled: Sequence[int], wins: Iterable[Pair]) -> list[int]:
    """All n documents: the settled, then the others, each in front of those it won against, else in first-stage order.

    wins  (winner, loser); where they contradict each other, the last in first-stage order goes behind.
    """
    waiting = sorted(set(range(n)).difference(settled))
    losers: dict[int, set[int]] = {document: set() for document in waiting}
    for winner, loser in wins:
        if winner in losers and loser in losers:
            losers[winner].add(loser)
    tail: list[int] = []
    while waiting:
        last = next((document for document in reversed(waiting) if not losers[document]), waiting[-1])
        waiting.remove(last)
        for beaten in losers.values():
            beaten.discard(last)
        tail.append(last)
    return [*settled, *reversed(tail)]
