"""Shared passes: every caller gets what it would have got alone, and nobody waits for others' mistakes or absence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import batching
from rag.batching import LARGEST, PADDING, Batching, lending, one_thread
from rag.errors import InvalidInput, Overloaded
from rag.runtime.meter import Cancelled, Limits, Meter, OutOfBudget


class Doubling:
    """Twice every number, in passes that are written down; held up while ``gate`` is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.passes: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.passes.append(list(items))
        self.begun.release()
        assert self.gate.wait(20)
        if 13 in items:
            raise InvalidInput("13 is refused")
        return [2 * item for item in items]


def until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        time.sleep(0.002)
    raise AssertionError("it never came true")


def waiting(shared: Batching[int, int], requests: int) -> Callable[[], bool]:
    return lambda: len(shared._requests) == requests


@settings(max_examples=40, deadline=None, database=None)
@given(
    st.lists(st.lists(st.integers(20, 60), max_size=12), min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 80)
)
def test_everybody_gets_their_own_results_in_their_own_order(
    requests: list[list[int]], lanes: int, largest: int
) -> None:
    """The oracle is the plain loop; items are their own lengths, so passes are cut in many ways."""
    compute = Doubling()
    shared = Batching(compute, lambda: lanes, largest=largest)
    with ThreadPoolExecutor(len(requests)) as pool:
        found = list(pool.map(lambda items: shared.run(items, items), requests))
    assert found == [[2 * item for item in items] for items in requests]
    assert sorted(item for taken in compute.passes for item in taken) == sorted(
        item for items in requests for item in items
    )
    for taken in compute.passes:
        assert max(taken) - min(taken) <= PADDING
        assert len(taken) == 1 or max(taken) * len(taken) <= max(largest, batching.SMALL)


def test_the_first_goes_at_once_and_those_that_come_meanwhile_share_the_next_pass() -> None:
    compute = Doubling()
    shared = Batching(compute)
    compute.gate.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(shared.run, [1], [5])
        assert compute.begun.acquire(timeout=5)
        rest = [pool.submit(shared.run, [n], [5]) for n in range(20, 28)]
        until(waiting(shared, 9))
        compute.gate.set()
        assert [one.result(5) for one in rest] == [[2 * n] for n in range(20, 28)]
        assert first.result(5) == [2]
    assert compute.passes[0] == [1]
    assert [sorted(taken) for taken in compute.passes[1:]] == [list(range(20, 28))]


def test_the_oldest_request_is_next_however_many_short_ones_come() -> None:
    compute = Doubling()
    shared = Batching(compute)
    compute.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        held = [pool.submit(shared.run, [1], [5])]
        assert compute.begun.acquire(timeout=5)
        held.append(pool.submit(shared.run, [500], [500]))
        until(waiting(shared, 2))
        held += [pool.submit(shared.run, [n], [5]) for n in range(20, 25)]
        until(waiting(shared, 7))
        compute.gate.set()
        for one in held:
            one.result(5)
    assert compute.passes[1] == [500]


def test_an_error_is_only_its_own_request_s() -> None:
    compute = Doubling()
    shared = Batching(compute)
    compute.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.run, [1], [5])
        assert compute.begun.acquire(timeout=5)
        bad, good = pool.submit(shared.run, [13, 14], [5, 5]), pool.submit(shared.run, [15], [5])
        until(waiting(shared, 3))
        compute.gate.set()
        with pytest.raises(InvalidInput, match="13 is refused"):
            bad.result(5)
        assert (first.result(5), good.result(5)) == ([2], [30])
    assert shared.run([3], [5]) == [6]


def test_at_its_deadline_a_request_takes_what_is_there_and_the_rest_is_not_computed() -> None:
    compute = Doubling()
    shared = Batching(compute, largest=10)
    compute.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(shared.attempt, [900, 1, 800], [900, 1, 800], Meter(Limits(deadline_ms=200)))
        assert compute.begun.acquire(timeout=5)
        results, stopped = running.result(5)
    assert (results, type(stopped)) == ([None, None, None], OutOfBudget)
    compute.gate.set()
    assert shared.run([2], [2]) == [4]
    assert compute.passes == [[900], [2]]


def test_a_request_that_was_given_up_is_not_computed() -> None:
    compute = Doubling()
    shared = Batching(compute)
    compute.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.run, [1], [5])
        assert compute.begun.acquire(timeout=5)
        with pytest.raises(Cancelled):
            shared.run([2], [5], Meter(gone=lambda: True))
        compute.gate.set()
        assert first.result(5) == [2]
    assert shared.run([3], [5]) == [6]
    assert compute.passes == [[1], [3]]


def test_more_requests_than_may_wait_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_WAITING", 2)
    compute = Doubling()
    shared = Batching(compute)
    compute.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(shared.run, [n], [5]) for n in (1, 2)]
        until(waiting(shared, 2))
        with pytest.raises(Overloaded):
            shared.run([3], [5])
        compute.gate.set()
        assert sorted(one.result(5)[0] for one in held) == [2, 4]


def test_lanes_work_side_by_side_on_one_large_request_and_end_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "IDLE", 0.1)
    together = threading.Barrier(2, timeout=10)

    def compute(items: Sequence[int]) -> list[int]:
        together.wait()  # breaks unless two passes run at once
        return list(items)

    shared = Batching(compute, lambda: 2, name="side")
    items = [LARGEST // 2] * 2
    assert shared.run(items, items) == items
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "side-lane"])
    assert shared._running == 0
    assert shared.run(items, items) == items


def test_what_a_waiting_thread_holds_is_lent_meanwhile() -> None:
    lent: list[str] = []

    @contextmanager
    def lend() -> Iterator[None]:
        lent.append("out")
        yield
        lent.append("back")

    token = lending.set(lend)
    try:
        assert Batching(Doubling()).run([1], [1]) == [2]
    finally:
        lending.reset(token)
    assert lent == ["out", "back"]


def test_nothing_asked_nothing_computed() -> None:
    compute = Doubling()
    assert Batching(compute).run([], []) == []
    assert compute.passes == []


def test_lanes_have_one_thread_each_and_take_none_from_others() -> None:
    """However many begin at once: a thread that comes later computes with as many as before."""
    import torch

    all_here = threading.Barrier(8, timeout=20)

    def lane(_: int) -> int:
        all_here.wait()
        with one_thread():
            return torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for _ in range(6):
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(lane, range(8))) == [1] * 8
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
