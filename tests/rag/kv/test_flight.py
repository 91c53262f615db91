"""Many keys at once: each is made once, by whoever asks first, and nobody is spoilt by another's failure."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from rag.kv.flight import SingleFlight


def never() -> None:
    """Nobody waits here, or may for as long as it takes."""


def test_each_key_is_made_once_and_in_order() -> None:
    made: list[list[str]] = []

    def make(keys: list[str]) -> list[str]:
        made.append(keys)
        return [key.upper() for key in keys]

    assert SingleFlight[str]().do_many(["b", "a", "b"], make, never) == {"b": "B", "a": "A"}
    assert made == [["b", "a"]]
    assert SingleFlight[str]().do_many([], make, never) == {}


def test_callers_that_overlap_share_what_they_ask_for() -> None:
    flights, both, made = SingleFlight[str](), Barrier(2), list[str]()

    def ask(keys: str) -> dict[str, str]:
        def make(mine: list[str]) -> list[str]:
            both.wait(10)  # both have claimed theirs
            made.extend(mine)
            return [key.upper() for key in mine]

        return flights.do_many(list(keys), make, never)

    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(ask, ("abc", "cbd"))
    assert one == {key: key.upper() for key in "abc"}
    assert two == {key: key.upper() for key in "bcd"}
    assert sorted(made) == list("abcd")


def test_what_another_failed_at_is_made_by_who_waited() -> None:
    flights, flying, waiting = SingleFlight[str](), Event(), Event()

    def fails(keys: list[str]) -> list[str]:
        flying.set()
        waiting.wait(10)
        raise ValueError("no budget")

    with ThreadPoolExecutor(1) as threads:
        failing = threads.submit(flights.do_many, ["a"], fails, never)
        flying.wait(10)
        found = flights.do_many(["a"], lambda keys: ["made here"] * len(keys), waiting.set)
        with pytest.raises(ValueError, match="no budget"):
            failing.result()
    assert found == {"a": "made here"}


def test_who_may_not_wait_longer_does_not() -> None:
    flights, flying, ending = SingleFlight[str](), Event(), Event()

    def slow(keys: list[str]) -> list[str]:
        flying.set()
        ending.wait(10)
        return ["late"] * len(keys)

    def out_of_time() -> None:
        raise TimeoutError

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(flights.do_many, ["a"], slow, never)
        flying.wait(10)
        with pytest.raises(TimeoutError):
            flights.do_many(["a"], slow, out_of_time)
        ending.set()
        assert first.result() == {"a": "late"}
