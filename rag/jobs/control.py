"""A job's hand on the brake: every bit of progress asks whether to go on, waits for its turn, and is written down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from indexes.readers.source import Skipped
from rag.errors import KvasirError
from rag.jobs.store import JobStore
from rag.jobs.turns import Turns

_WRITE_SECONDS = 0.25
_ASK_SECONDS = 0.2
_RATE_SECONDS = 5.0


class JobCancelled(KvasirError):
    """Somebody asked for the job to stop."""


class JobSuspended(KvasirError):
    """The server ends; the job goes on with the next one."""


class Control:
    """Of one running job, on the thread it runs on."""

    def __init__(
        self,
        store: JobStore,
        job_id: str,
        turns: Turns,
        stopping: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._id, self._turns, self._stopping, self._clock = store, job_id, turns, stopping, clock
        self._asked = self._written = -1e9
        self._step, self._begun = "", (0.0, 0)
        self._skipped: list[Skipped] = []
        self.count = 0

    def check(self) -> None:
        """Raises JobCancelled, JobSuspended."""
        if self._stopping.is_set():
            raise JobSuspended("the server ends; the job goes on when it starts again")
        now = self._clock()
        if now - self._asked >= _ASK_SECONDS:
            self._asked = now
            if self._store.cancelled(self._id):
                raise JobCancelled("cancelled")

    def go_on(self) -> None:
        """Check, and give way where others wait."""
        self.check()
        self._turns.breathe(self.check)

    def progress(self, step: str, done: int, total: int | None) -> None:
        """How far the step is; the form of progress that builds report."""
        now = self._clock()
        fresh = step != self._step
        if fresh:
            self._step, self._begun = step, (now, done)
        if fresh or now - self._written >= _WRITE_SECONDS or done == total:
            self._written = now
            self.flush()
            seconds, before = now - self._begun[0], self._begun[1]
            rate = round((done - before) / seconds, 3) if seconds > 0 else 0.0
            self._store.update(self._id, step=step, done=done, total=total, rate=rate, skipped=self.count)
            if seconds > _RATE_SECONDS:
                self._begun = (now - _RATE_SECONDS / 2, done - round((done - before) * _RATE_SECONDS / 2 / seconds))
        self.go_on()

    def skip(self, skipped: Skipped) -> None:
        """Something that could not be taken in."""
        self._skipped.append(skipped)
        self.count += 1
        if len(self._skipped) >= 1000:
            self.flush()

    def flush(self) -> None:
        """Write down what was skipped."""
        if self._skipped:
            self._store.log(self._id, self._skipped, self.count - len(self._skipped))
            self._skipped.clear()
