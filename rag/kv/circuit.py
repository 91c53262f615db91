"""A circuit breaker: what does not answer is left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Literal

from rag.errors import CacheUnavailable

State = Literal["closed", "open", "half-open"]


class Circuit:
    """Closed while calls succeed; a failure opens it for ``interval`` seconds, then one call tries and decides.

    So something dead costs one timeout an interval, beside the calls that were under way when it died.
    """

    def __init__(self, interval: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval, self._clock = interval, clock
        self._lock = Lock()
        self._until: float | None = None
        self._trying: float | None = None
        self.trouble = ""

    @property
    def state(self) -> State:
        with self._lock:
            if self._until is None:
                return "closed"
            return "open" if self._clock() < self._until else "half-open"

    @contextmanager
    def call(self, name: str, failures: tuple[type[BaseException], ...]) -> Iterator[None]:
        """The block, where it may run. Raises CacheUnavailable instead of ``failures``, and while the circuit is open.

        Other exceptions pass and say nothing about what is called.
        """
        self._enter(name)
        try:
            yield
        except failures as error:
            self._failed(f"{type(error).__name__}: {error}".removesuffix(": "))
            raise CacheUnavailable(f"{name} does not answer ({self.trouble})") from error
        except BaseException:
            with self._lock:
                self._trying = None
            raise
        with self._lock:
            self._until = self._trying = None
            self.trouble = ""

    def _enter(self, name: str) -> None:
        with self._lock:
            now = self._clock()
            if self._until is None:
                return
            if now < self._until or (self._trying is not None and now < self._trying + self.interval):
                raise CacheUnavailable(f"{name} is left alone until it is tried again ({self.trouble})")
            self._trying = now

    def _failed(self, trouble: str) -> None:
        with self._lock:
            self._until, self._trying, self.trouble = self._clock() + self.interval, None, trouble
