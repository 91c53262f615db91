"""The circuit breaker on a clock of the test, and flights that are shared."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rag.errors import CacheUnavailable
from rag.kv.circuit import Circuit
from rag.kv.flight import SingleFlight


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def attempt(circuit: Circuit, error: Exception | None = None) -> str:
    """What a call says: fine, or why not."""
    try:
        with circuit.call("it", (OSError,)):
            if error:
                raise error
    except CacheUnavailable as unavailable:
        return str(unavailable)
    return "fine"


def state(circuit: Circuit) -> str:
    return circuit.state


def test_a_dead_server_costs_one_call_an_interval_until_it_answers() -> None:
    clock, tried = Clock(), 0
    circuit = Circuit(5.0, clock)
    assert (attempt(circuit), state(circuit)) == ("fine", "closed")
    for second in range(20):  # fails at 0, 5, 10 and 15
        clock.now = 100.0 + second
        tried += "does not answer" in attempt(circuit, OSError("gone"))
    assert tried == 4
    assert state(circuit) == "open"
    assert "left alone until it is tried again (OSError: gone)" in attempt(circuit)
    clock.now = 120.0
    assert state(circuit) == "half-open"
    assert (attempt(circuit), state(circuit), circuit.trouble) == ("fine", "closed", "")
    assert attempt(circuit, OSError("again")) == "it does not answer (OSError: again)"


def test_one_call_tries_while_the_others_are_refused() -> None:
    clock = Clock()
    circuit = Circuit(5.0, clock)
    attempt(circuit, OSError())
    clock.now += 5
    with circuit.call("it", (OSError,)):
        assert "left alone" in attempt(circuit)
    assert attempt(circuit) == "fine"


def test_an_error_of_another_kind_passes_and_leaves_the_trial_to_the_next() -> None:
    clock = Clock()
    circuit = Circuit(5.0, clock)
    with pytest.raises(KeyError):
        attempt(circuit, KeyError())
    assert state(circuit) == "closed"
    attempt(circuit, OSError())
    clock.now += 5
    with pytest.raises(KeyError):
        attempt(circuit, KeyError())
    assert state(circuit) == "half-open"
    assert attempt(circuit) == "fine"


def test_a_trial_that_never_ends_blocks_for_one_interval_only() -> None:
    clock = Clock()
    circuit = Circuit(5.0, clock)
    attempt(circuit, OSError())
    clock.now += 5
    hanging = circuit.call("it", (OSError,))
    hanging.__enter__()
    assert "left alone" in attempt(circuit)
    clock.now += 5
    assert attempt(circuit) == "fine"
    hanging.__exit__(None, None, None)


# --- flights ---


def gathered(flight: SingleFlight[int], threads: int, error: bool) -> tuple[int, list[object]]:
    """How often it was made, and what each thread got, when all ask while the first makes."""
    made, waiting = [], threading.Barrier(threads)

    def make() -> int:
        made.append(1)
        waiting.wait(5)  # the others are on their way; a moment more and they wait for this flight
        threading.Event().wait(0.1)
        if error:
            raise KeyError("no")
        return 7

    def ask(n: int) -> object:
        if n:
            waiting.wait(5)
        try:
            return flight.do("key", make)
        except KeyError as failed:
            return str(failed)

    with ThreadPoolExecutor(threads) as pool:
        said = list(pool.map(ask, range(threads)))
    return len(made), said


def test_threads_that_ask_at_once_make_once() -> None:
    assert gathered(SingleFlight(), 8, error=False) == (1, [7] * 8)


def test_an_error_is_shared_and_not_kept() -> None:
    flight: SingleFlight[int] = SingleFlight()
    count, said = gathered(flight, 4, error=True)
    assert (count, said) == (1, ["'no'"] * 4)
    assert flight.do("key", lambda: 8) == 8


def test_keys_do_not_wait_for_each_other_and_nothing_is_kept() -> None:
    flight: SingleFlight[int] = SingleFlight()
    assert flight.do("a", lambda: flight.do("b", lambda: 3) + 1) == 4
    assert flight.do("a", lambda: 5) == 5
