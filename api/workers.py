"""A bounded number of threads that do the blocking work, behind a queue with a bound; the event loop only waits.

The threads are bounded because each thread that has called Java stays attached to its virtual machine. A thread that
only waits for a model's pass lends its place to a spare one: so requests come together in a pass, and a search does
not wait behind a model. Threads that have nothing to do in the end are parked, not ended.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

from rag.batching import lending
from rag.errors import DeadlineExceeded, Overloaded
from rag.runtime.meter import cancelled, deadline, seconds_left

T = TypeVar("T")
Emit = Callable[[bytes], None]
"""Hands a piece of a stream over. Raises Abandoned where nobody listens any more."""

_WAIT_AT_CLOSE = 30.0
SPARES = 32
"""Threads that may take the place of those that wait for a model."""
_RECENT = 0.1
"""Weight of the last interval between two finished jobs in their mean."""


class Abandoned(Exception):
    """The listener of a stream has gone; the job ends early."""


class Workers:
    """``threads`` do the work and ``queue`` jobs may wait for them; one more raises Overloaded.

    So does one that would wait longer than ``max_wait`` seconds, as fast as jobs have been finished since the queue
    began; 0 leaves that out.

    Counting and results happen on the event loop's thread, so nothing here needs a lock. What the threads have to
    tell is put aside and fetched in one go: many results, one wake-up of the loop.
    """

    def __init__(
        self,
        threads: int,
        queue: int,
        *,
        name: str = "worker",
        seconds: float = 0.0,
        max_wait: float = 0.0,
        spares: int = 0,
    ) -> None:
        """``seconds``  time for work that its request gives no deadline, from when it was taken on; 0 for any."""
        self.seconds = seconds
        self.limit = threads + queue
        self.max_wait = max_wait
        self._places = threads
        self._most = threads + spares
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._told: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._called = False
        self._pending = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._interval = 0.0
        self._finished = 0.0
        self._guard = threading.Lock()
        self._parked: list[threading.Event] = []
        self._free = 0
        self._surplus = 0
        self._closing = False
        self._threads: list[threading.Thread] = []

    @property
    def pending(self) -> int:
        """Jobs that are waiting or running."""
        return self._pending

    def start(self) -> None:
        """Start the threads; results go to the event loop that is running now."""
        self._loop = asyncio.get_running_loop()
        for _ in range(self._places):
            self._add_thread()

    def _add_thread(self) -> None:
        name = f"kvasir-{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    async def close(self) -> None:
        """Finish what was taken on, then end the threads."""
        with self._guard:
            self._closing = True
            parked, self._parked = self._parked, []
        for _ in self._threads:
            self._jobs.put(None)
        for event in parked:
            event.set()
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        until = time.monotonic() + _WAIT_AT_CLOSE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    # --- on the loop's thread ---

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises, done on a worker thread. Raises Overloaded."""
        return await self.submit(work)

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """The same, for whoever does not wait here."""
        future: asyncio.Future[T] = self._running_loop().create_future()
        until = self._until()
        self._take_on(lambda: self._settle(future, work, until))
        return future

    async def stream(
        self, work: Callable[[Emit], None], last_words: Callable[[Exception], bytes]
    ) -> AsyncIterator[bytes]:
        """The pieces ``work`` emits, as an iterator whose first piece is already there.

        Raises Overloaded, and whatever ``work`` raises before its first piece; a later error is the last piece, as
        ``last_words`` puts it. Closing the iterator makes the next ``emit`` raise Abandoned.
        """
        pieces = self._pieces(work, last_words)
        first = await anext(pieces, b"")
        return _with_first(first, pieces)

    async def _pieces(
        self, work: Callable[[Emit], None], last_words: Callable[[Exception], bytes]
    ) -> AsyncGenerator[bytes, None]:
        begun = False
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        gone = threading.Event()

        def emit(piece: bytes) -> None:
            if gone.is_set():
                raise Abandoned
            self._tell(queue.put_nowait, piece)

        def job() -> None:
            cancelled.set(gone.is_set)  # the listener of a stream leaves without cancelling ``ended``
            if not gone.is_set():
                work(emit)

        ended: asyncio.Future[None] = self._running_loop().create_future()
        ended.add_done_callback(lambda _: queue.put_nowait(None))
        until = self._until()
        self._take_on(lambda: self._settle(ended, job, until))
        try:
            while (piece := await queue.get()) is not None:
                begun = True
                yield piece
            if (error := ended.exception()) is not None:
                if not isinstance(error, Exception) or not begun:
                    raise error
                yield last_words(error)
        finally:
            gone.set()
            ended.add_done_callback(_look_at)

    def _until(self) -> float | None:
        """The deadline of the request that this is called for."""
        until = deadline.get()
        return until if until is not None or not self.seconds else time.perf_counter() + self.seconds

    @property
    def expected_wait(self) -> float:
        """Seconds until a job that came now would begin, as fast as jobs have been finished of late."""
        return self._interval * max(0, self._pending - self._places + 1)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "workers are started before they are given work"
        return self._loop

    def _take_on(self, job: Callable[[], None]) -> None:
        if self._pending >= self.limit:
            raise Overloaded(
                f"all workers are busy and {self._pending} requests wait or run; try again in a moment",
                retry_after=max(1, math.ceil(self.expected_wait)),
            )
        if self.max_wait and (wait := self.expected_wait) > self.max_wait:
            raise Overloaded(
                f"a request would wait {wait:.1f} s now, and the limit is {self.max_wait:g} s (server.max_wait_ms); "
                "try again in a moment",
                retry_after=max(1, math.ceil(wait)),
            )
        self._pending += 1
        self._jobs.put(job)
        if self._free:
            self._fill()

    def _fetch(self) -> None:
        """Do what the threads asked for. ``_called`` is cleared first, so nothing told meanwhile is left lying."""
        self._called = False
        while self._told:
            callback, arguments = self._told.popleft()
            callback(*arguments)

    def _finish(self, future: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
        self._pending -= 1
        self._measure()
        if future.done():  # cancelled: the client went away
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def _measure(self) -> None:
        """The mean interval between finished jobs while others waited; forgotten once nobody does."""
        now = time.perf_counter()
        if self._pending < self._places:
            self._interval = 0.0
        elif self._interval:
            self._interval += _RECENT * (now - self._finished - self._interval)
        elif self._finished:
            self._interval = now - self._finished
        self._finished = now if self._pending >= self._places else 0.0

    # --- on the worker threads ---

    def _work(self) -> None:
        lending.set(self._lent)
        while (job := self._jobs.get()) is not None:
            job()
            if self._surplus:
                self._park()

    @contextmanager
    def _lent(self) -> Iterator[None]:
        """A job that comes meanwhile is done in this one's place, by a spare thread."""
        with self._guard:
            self._free += 1
        self._fill()
        try:
            yield
        finally:
            with self._guard:
                untouched = self._free > 0
                self._free -= untouched
                self._surplus += not untouched
            if not untouched:
                self._jobs.put(_nothing)  # whoever is idle finds out that there are more threads than places

    def _fill(self) -> None:
        """A spare thread for a job, where a place is free."""
        with self._guard:
            if not self._free or self._jobs.empty() or self._closing:
                return
            if self._surplus:  # somebody is about to be parked: they go on instead
                self._surplus -= 1
            elif self._parked:
                self._parked.pop().set()
            elif len(self._threads) < self._most:
                self._add_thread()
            else:
                return
            self._free -= 1

    def _park(self) -> None:
        """Wait until a place is lent, where more threads work than there are places."""
        with self._guard:
            if not self._surplus or self._closing:
                return
            self._surplus -= 1
            event = threading.Event()
            self._parked.append(event)
        event.wait()

    def _settle(self, future: asyncio.Future[T], work: Callable[[], T], until: float | None) -> None:
        result, failure = None, None
        cancelled.set(future.cancelled)  # a language model stops where nobody waits any more
        deadline.set(until)
        try:
            if seconds_left() == 0:
                raise DeadlineExceeded("the deadline passed while the request waited for a worker; allow it more time")
            if not future.cancelled():
                result = work()
        except Exception as error:  # noqa: BLE001 - the thread's outermost frame: the error is raised where it is awaited
            failure = error
        self._tell(self._finish, future, result, failure)

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call back; wakes it only where no wake-up is under way."""
        self._told.append((callback, arguments))
        if not self._called:
            self._called = True
            try:
                self._running_loop().call_soon_threadsafe(self._fetch)
            except RuntimeError:  # the loop has been closed: nobody is left to be told
                self._told.clear()


async def _with_first(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _nothing() -> None:
    """A job that only wakes a thread."""


def _look_at(ended: asyncio.Future[None]) -> None:
    """An error after the listener has gone is nobody's: looking at it keeps asyncio from reporting it as lost."""
    if not ended.cancelled():
        ended.exception()
