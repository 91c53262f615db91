"""Turns with the model: in the order of asking, and never longer than the request may wait."""

from __future__ import annotations

import threading
import time

import pytest

from rag.runtime.meter import Limits, Meter, OutOfBudget
from rag.runtime.turns import Turns


def test_first_come_first_served() -> None:
    turns, served = Turns(), list[int]()
    threads = []

    def wait(number: int) -> None:
        with turns.turn(Meter()):
            served.append(number)

    with turns.turn(Meter()):
        for number in range(8):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            while len(turns._waiting) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert served == list(range(8))


def test_only_one_at_a_time() -> None:
    turns, inside, most = Turns(), [0], [0]

    def work() -> None:
        for _ in range(50):
            with turns.turn(Meter()):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (most[0], inside[0]) == (1, 0)


def test_who_gives_up_is_not_in_the_way() -> None:
    turns = Turns()
    with turns.turn(Meter()), pytest.raises(OutOfBudget), turns.turn(Meter(Limits(deadline_ms=60))):
        pass
    with turns.turn(Meter()):
        assert not turns._waiting


def test_an_error_inside_hands_it_on() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="oops"), turns.turn(Meter()):
        raise ValueError("oops")
    with turns.turn(Meter()):
        pass
