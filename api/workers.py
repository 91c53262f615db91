"""A fixed number of threads that do the blocking work, behind a queue with a bound; the event loop only waits.

The threads are fixed because each thread that has called Java stays attached to its virtual machine.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from queue import SimpleQueue
from typing import Any, TypeVar

from rag.errors import DeadlineExceeded, Overloaded
from rag.runtime.meter import cancelled, deadline, seconds_left

T = TypeVar("T")
Emit = Callable[[bytes], None]
"""Hands a piece of a stream over. Raises Abandoned where nobody listens any more."""

_WAIT_AT_CLOSE = 30.0


class Abandoned(Exception):
    """The listener of a stream has gone; the job ends early."""


class Workers:
    """``threads`` do the work and ``queue`` jobs may wait for them; one more raises Overloaded.

    Counting and results happen on the event loop's thread, so nothing here needs a lock. What the threads have to
    tell is put aside and fetched in one go: many results, one wake-up of the loop.
    """

    def __init__(self, threads: int, queue: int, *, name: str = "worker", seconds: float = 0.0) -> None:
        """``seconds``  time for work that its request gives no deadline, from when it was taken on; 0 for any."""
        self.seconds = seconds
        self.limit = threads + queue
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._told: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._called = False
        self._pending = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"kvasir-{name}-{i}", daemon=True) for i in range(threads)
        ]

    @property
    def pending(self) -> int:
        """Jobs that are waiting or running."""
        return self._pending

    def start(self) -> None:
        """Start the threads; results go to the event loop that is running now."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Finish what was taken on, then end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(_WAIT_AT_CLOSE)

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

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "workers are started before they are given work"
        return self._loop

    def _take_on(self, job: Callable[[], None]) -> None:
        if self._pending >= self.limit:
            raise Overloaded(f"all workers are busy and {self._pending} requests wait or run; try again in a moment")
        self._pending += 1
        self._jobs.put(job)

    def _fetch(self) -> None:
        """Do what the threads asked for. ``_called`` is cleared first, so nothing told meanwhile is left lying."""
        self._called = False
        while self._told:
            callback, arguments = self._told.popleft()
            callback(*arguments)

    def _finish(self, future: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
        self._pending -= 1
        if future.done():  # cancelled: the client went away
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    # --- on the worker threads ---

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

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


def _look_at(ended: asyncio.Future[None]) -> None:
    """An error after the listener has gone is nobody's: looking at it keeps asyncio from reporting it as lost."""
    if not ended.cancelled():
        ended.exception()
