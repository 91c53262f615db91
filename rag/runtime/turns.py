"""Whose turn it is with the model: first come, first served, and nobody waits longer than the request may."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rag.runtime.meter import Meter

PATIENCE = 0.05
"""Seconds between two looks at a request's limits while it waits."""


class Turns:
    """A lock that is handed on in the order of asking. Not reentrant."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._held = False

    @contextmanager
    def turn(self, meter: Meter) -> Iterator[None]:
        """Hold it. Raises OutOfBudget, Cancelled where the request may not wait any longer."""
        self._acquire(meter)
        try:
            yield
        finally:
            self._release()

    def _acquire(self, meter: Meter) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        try:
            while not mine.wait(PATIENCE):
                meter.allow()
        except BaseException:
            self._give_up(mine)
            raise

    def _give_up(self, mine: threading.Event) -> None:
        with self._guard:
            if not mine.is_set():
                self._waiting.remove(mine)
                return
        self._release()  # it came while giving up

    def _release(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held = False
