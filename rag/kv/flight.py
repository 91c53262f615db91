"""One flight a key: what several ask for at once is made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE = 0.05
"""Seconds between two looks at whether a caller may wait any longer."""


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

    def do_many(
        self, keys: Sequence[str], make: Callable[[list[str]], Sequence[T]], waiting: Callable[[], None]
    ) -> dict[str, T]:
        """One answer a key: ``make`` gives those that nobody makes yet, in order; the others are waited for.

        waiting  called every PATIENCE seconds of it; what it raises ends the wait. What another caller failed at is
        made here.
        """
        found: dict[str, T] = {}
        while missing := [key for key in dict.fromkeys(keys) if key not in found]:
            mine, others = self._take(missing)
            if mine:
                found |= self._made(mine, make)
            for key, flying in others.items():
                while not wait([flying], PATIENCE).done:
                    waiting()
                if flying.exception() is None:
                    found[key] = flying.result()
        return found

    def _take(self, keys: Sequence[str]) -> tuple[dict[str, Future[T]], dict[str, Future[T]]]:
        """The keys that are the caller's to make, and those under way."""
        with self._lock:
            others = {key: self._flying[key] for key in keys if key in self._flying}
            mine: dict[str, Future[T]] = {key: Future() for key in keys if key not in others}
            self._flying |= mine
        return mine, others

    def _made(self, mine: dict[str, Future[T]], make: Callable[[list[str]], Sequence[T]]) -> dict[str, T]:
        try:
            made = dict(zip(mine, make(list(mine)), strict=True))
        except BaseException as error:
            for key, flying in mine.items():
                self._land(key)
                flying.set_exception(error)
            raise
        for key, flying in mine.items():
            self._land(key)
            flying.set_result(made[key])
        return made

    def _land(self, key: str) -> None:
        with self._lock:
            del self._flying[key]
