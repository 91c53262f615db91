"""One flight a key: what several ask for at once is made once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Calls that share a key while the first of them runs. Nothing is kept when it is over, errors neither."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._flying: dict[str, Future[T]] = {}

    def do(self, key: str, make: Callable[[], T]) -> T:
        """What ``make`` gives; whoever comes while it runs waits, and gets the same, or the same error."""
        with self._lock:
            flying = self._flying.get(key)
            if flying is None:
                mine: Future[T] = Future()
                self._flying[key] = mine
        if flying is not None:
            return flying.result()
        try:
            made = make()
        except BaseException as error:
            self._land(key)
            mine.set_exception(error)
            raise
        self._land(key)
        mine.set_result(made)
        return made

    def _land(self, key: str) -> None:
        with self._lock:
            del self._flying[key]
