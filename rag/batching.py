"""Texts of several requests, read by a model in common passes.

A request that comes alone goes at once. What comes while the model is busy waits, and the next pass takes from all
requests what is about equally long: no padding is worth more than a pass, and a long request keeps no short one out.
On a CPU several passes run beside each other, one thread each: threads that share one pass of a small model wait for
each other longer than they work.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rag.errors import Overloaded
from rag.runtime.meter import Meter, OutOfBudget
from rag.runtime.turns import PATIENCE

Item = TypeVar("Item")
Result = TypeVar("Result")

PADDING = 8
"""Tokens by which an item may be shorter than the longest of its pass: a pass more costs about that much."""
SMALL = 256
"""Tokens below which work is not cut up for another lane."""
LARGEST = 1024
"""Padded tokens of a pass: more no longer fit a core's caches."""
MOST_WAITING = 1024
"""Requests that may wait."""
IDLE = 5.0
"""Seconds after which a lane without work ends."""

lending: ContextVar[Callable[[], AbstractContextManager[None]]] = ContextVar("lending", default=nullcontext)
"""What a thread that only waits holds: other work may be done in its place meanwhile."""


@dataclass(slots=True, eq=False)
class _Request(Generic[Item, Result]):
    """Items of one caller, longest first; ``next`` is the first that may be untaken."""

    items: Sequence[Item]
    costs: Sequence[int]
    results: list[Result | None]
    taken: list[bool]
    left: int
    next: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def longest(self) -> int | None:
        """The place of the longest item that no pass has taken, None where all are."""
        while self.next < len(self.items) and self.taken[self.next]:
            self.next += 1
        return self.next if self.next < len(self.items) else None


_Entry = tuple[int, ...]
"""(cost, -number of the request, -place in it): a waiting item. Of equally long ones the oldest stands last."""


class Batching(Generic[Item, Result]):
    """Calls ``compute`` for the items of all threads that ask; each gets its own results.

    compute  items to as many results, from several threads at once;  lanes  how many of them, asked for once
    Which items share a pass changes a result by float rounding only, where ``compute`` keeps to that.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Result]],
        lanes: Callable[[], int] = lambda: 1,
        *,
        enter: Callable[[], AbstractContextManager[None]] = nullcontext,
        largest: int = LARGEST,
        padding: int = PADDING,
        name: str = "model",
    ) -> None:
        self._compute, self._ask_lanes, self._enter = compute, lanes, enter
        self._largest, self._padding, self._name = largest, padding, name
        self._condition = threading.Condition()
        self._requests: dict[int, _Request[Item, Result]] = {}
        self._waiting: list[_Entry] = []
        self._cost = 0
        self._number = 0
        self._most = 0
        self._running = 0
        self._idle = 0

    # --- callers ---

    def run(self, items: Sequence[Item], costs: Sequence[int], meter: Meter | None = None) -> list[Result]:
        """The results in the order of ``items``; ``costs`` are their lengths in tokens.

        Raises Overloaded, OutOfBudget and Cancelled as ``meter`` says, and what ``compute`` raises for these items.
        """
        results, stopped = self.attempt(items, costs, meter)
        if stopped is not None:
            raise stopped
        return [result for result in results if result is not None]

    def attempt(
        self, items: Sequence[Item], costs: Sequence[int], meter: Meter | None = None
    ) -> tuple[list[Result | None], OutOfBudget | None]:
        """The same; at a limit what is there by then, None for the others, and the limit."""
        if not items:
            return [], None
        meter = meter or Meter()
        order = sorted(range(len(items)), key=lambda place: -costs[place])
        number, request = self._begin([items[place] for place in order], [max(1, costs[place]) for place in order])
        stopped = None
        try:
            with lending.get()():
                while not request.done.wait(PATIENCE):
                    meter.allow()
        except OutOfBudget as limit:
            stopped = limit
        finally:
            self._end(number)
        if request.error is not None:
            raise request.error
        back = sorted(range(len(order)), key=order.__getitem__)
        return [request.results[place] for place in back], stopped if request.left else None

    def _begin(self, items: Sequence[Item], costs: Sequence[int]) -> tuple[int, _Request[Item, Result]]:
        request: _Request[Item, Result] = _Request(
            items, costs, [None] * len(items), [False] * len(items), left=len(items)
        )
        self._most = self._most or max(1, self._ask_lanes())
        with self._condition:
            if len(self._requests) >= MOST_WAITING:
                raise Overloaded(f"{MOST_WAITING} requests wait for the model already; try again in a moment")
            self._number += 1
            self._requests[self._number] = request
            for place, cost in enumerate(costs):
                insort(self._waiting, (cost, -self._number, -place))
            self._cost += sum(costs)
            wanted = min(self._most, max(1, -(-sum(costs) // SMALL)))
            self._condition.notify(wanted)
            for _ in range(min(wanted - self._idle, self._most - self._running)):
                self._running += 1
                threading.Thread(target=self._lane, name=f"{self._name}-lane", daemon=True).start()
            return self._number, request

    def _end(self, number: int) -> None:
        """Nobody waits for the request any more: what no pass has taken is not computed."""
        with self._condition:
            request = self._requests.pop(number)
            if request.longest() is None:
                return
            self._waiting = [entry for entry in self._waiting if entry[1] != -number]
            self._cost = sum(entry[0] for entry in self._waiting)

    # --- lanes ---

    def _lane(self) -> None:
        with self._enter():
            while taken := self._next():
                for request, places, results in self._computed(taken):
                    self._hand_over(request, places, results)

    def _next(self) -> list[tuple[_Request[Item, Result], int]]:
        """The next pass, nothing where this lane has waited for too long."""
        with self._condition:
            while not self._waiting:
                self._idle += 1
                woken = self._condition.wait(IDLE)
                self._idle -= 1
                if not woken and not self._waiting:
                    self._running -= 1
                    return []
            return self._take()

    def _take(self) -> list[tuple[_Request[Item, Result], int]]:
        """The longest item of the oldest request, and those nearest below it in length, of whichever request."""
        longest = next(
            request.costs[place]
            for request in self._requests.values()
            if (place := request.longest()) is not None  # a request whose items are all taken still waits for them
        )
        share = min(self._largest, max(SMALL, self._cost // self._most))
        last = bisect_left(self._waiting, (longest + 1,))
        first = last - 1
        while (
            first > 0
            and self._waiting[first - 1][0] >= longest - self._padding
            and (last - first + 1) * longest <= share
        ):
            first -= 1
        entries = self._waiting[first:last]
        del self._waiting[first:last]
        self._cost -= sum(entry[0] for entry in entries)
        found = [(self._requests[-number], -place) for _, number, place in entries]
        for request, place in found:
            request.taken[place] = True
        return found

    def _computed(
        self, taken: Sequence[tuple[_Request[Item, Result], int]]
    ) -> Iterator[tuple[_Request[Item, Result], list[int], Sequence[Result] | Exception]]:
        """What came of a pass, by request. Where it fails, each request is computed alone: the error is its own."""
        parts: dict[int, tuple[_Request[Item, Result], list[int]]] = {}
        for request, place in taken:
            parts.setdefault(id(request), (request, []))[1].append(place)
        together = self._tried([request.items[place] for request, places in parts.values() for place in places])
        if isinstance(together, Exception):
            for request, places in parts.values():
                alone = len(parts) > 1
                yield request, places, self._tried([request.items[place] for place in places]) if alone else together
            return
        results = deque(together)
        for request, places in parts.values():
            yield request, places, [results.popleft() for _ in places]

    def _tried(self, items: Sequence[Item]) -> Sequence[Result] | Exception:
        try:
            return self._compute(items)
        except Exception as error:  # noqa: BLE001 - the lane's outermost frame: it is raised where it is waited for
            return error

    def _hand_over(
        self, request: _Request[Item, Result], places: Sequence[int], results: Sequence[Result] | Exception
    ) -> None:
        with self._condition:
            if isinstance(results, Exception):
                request.error = results
                request.done.set()
                return
            for place, result in zip(places, results, strict=True):
                request.results[place] = result
            request.left -= len(places)
            if not request.left:
                request.done.set()


_counting_threads = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes in this thread with this thread alone; others keep what they have."""
    import torch

    with _counting_threads:
        usual = torch.get_num_threads()  # asked first: else torch would set the thread's number at its first use
        torch.set_num_threads(1)
        # The number is also what threads to come begin with. Only a call from another thread puts that back.
        restoring = threading.Thread(target=torch.set_num_threads, args=(usual,))
        restoring.start()
        restoring.join()
    yield
