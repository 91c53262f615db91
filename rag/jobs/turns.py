"""Turns: a few work at a time, and each gives way after a while to those who wait."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

_LOOK_SECONDS = 0.1


class Turns:
    """``at_once`` hold a turn; who waits is served in the order of coming. Threads share it.

    Who has worked for ``seconds`` and calls ``breathe`` goes to the end of the line, so that n who work without end
    get a turn each every n slices.
    """

    def __init__(self, at_once: int, seconds: float) -> None:
        self.seconds = seconds
        self._free = at_once
        self._line: deque[object] = deque()
        self._changed = threading.Condition()
        self._since = threading.local()

    def take(self, check: Callable[[], None]) -> None:
        """Wait for a turn; ``check`` is called now and then and may raise to leave the line."""
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            try:
                while self._line[0] is not ticket or not self._free:
                    self._changed.wait(_LOOK_SECONDS)
                    check()
            except BaseException:
                self._line.remove(ticket)
                self._changed.notify_all()
                raise
            self._line.popleft()
            self._free -= 1
            self._changed.notify_all()
        self._since.at = time.monotonic()

    def give(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def breathe(self, check: Callable[[], None]) -> None:
        """Called by who holds a turn; returns with one. Where ``check`` raises, the turn is held all the same."""
        if not self._line or time.monotonic() - self._since.at < self.seconds:
            return
        self.give()
        try:
            self.take(check)
        except BaseException:
            with self._changed:
                self._free -= 1
            raise
