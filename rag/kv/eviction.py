"""Who leaves first: GreedyDual-Size-Frequency (Cherkasova 1998), as RAGCache uses it for states (arXiv 2404.12457)."""

from __future__ import annotations

import heapq
from dataclasses import dataclass


def priority(clock: float, uses: int, cost: float, nbytes: int) -> float:
    """What an entry is worth: the smallest leaves first, and the clock moves up to it, so that all age."""
    return clock + uses * cost / max(nbytes, 1)


@dataclass(slots=True)
class _Entry:
    nbytes: int
    cost: float
    uses: int
    priority: float
    turn: int


class Worth:
    """Entries with sizes, costs and uses, and which of them are worth least. Ties: the one not used for longest.

    An entry of unknown cost counts as its bytes cost in the mean of those that are known. While none is, a byte counts
    for 1, and all is scaled when the first comes.
    """

    def __init__(self) -> None:
        self.clock = 0.0
        self.nbytes = 0
        self._turn = 0
        self._known = (0.0, 0)
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[float, int, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: str, nbytes: int, cost: float | None) -> None:
        """A new entry, used once."""
        self.remove(key)
        if cost is None:
            cost = nbytes * self._rate
        else:
            first = not self._known[1]
            self._known = (self._known[0] + cost, self._known[1] + nbytes)
            if first:
                self._scale(self._rate)
        self._entries[key] = _Entry(nbytes, cost, 0, 0.0, 0)
        self.nbytes += nbytes
        self.use(key)

    @property
    def _rate(self) -> float:
        """What a byte costs."""
        cost, nbytes = self._known
        return cost / nbytes if nbytes else 1.0

    def _scale(self, factor: float) -> None:
        self.clock *= factor
        for entry in self._entries.values():
            entry.cost *= factor
            entry.priority *= factor
        self._ordered()

    def _ordered(self) -> None:
        self._heap = [(one.priority, one.turn, name) for name, one in self._entries.items()]
        heapq.heapify(self._heap)

    def use(self, key: str) -> None:
        """One more use of an entry."""
        entry = self._entries[key]
        self._turn += 1
        entry.uses += 1
        entry.turn = self._turn
        entry.priority = priority(self.clock, entry.uses, entry.cost, entry.nbytes)
        heapq.heappush(self._heap, (entry.priority, entry.turn, key))
        if len(self._heap) > 64 + 4 * len(self._entries):
            self._ordered()

    def remove(self, key: str) -> None:
        """Forgets the entry, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.nbytes -= entry.nbytes

    def least(self) -> str:
        """Takes out the entry that is worth least. Raises IndexError where there is none."""
        while True:
            worth, turn, key = heapq.heappop(self._heap)
            entry = self._entries.get(key)
            if entry is not None and entry.turn == turn:
                self.clock = worth
                self.remove(key)
                return key
