"""Load or read: the decision against plain arithmetic, and with stores that really are slow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.kv.library import ChunkLibrary
from rag.kv.loading import PROBE, UNKNOWN, WEIGHT, LoadCosts
from rag.kv.memory import MemoryStore
from rag.kv.redis import RedisStore
from rag.kv.store import ChunkCacheStore, Value
from rag.kv.tiered import TieredStore
from rag.reranking.icr import lead_of
from rag.runtime.meter import Meter
from tests.rag.kv.chunks import same
from tests.rag.kv.models import model_of, tokens
from tests.redis_server import RedisServer
from tests.throttle import Throttle
from tests.tiny_models import one_thread

__all__ = ["one_thread"]
CHUNKS = tokens(*[40] * 6)
LARGE = 10**8
SLOW = 20_000.0
"""Bytes a second: a chunk of the tiny model takes about two seconds, and hundredths to read."""


class SlowStore(MemoryStore):
    """A store behind a line of so many bytes a second."""

    def __init__(self, rate: float) -> None:
        super().__init__(LARGE)
        self.name, self.rate = "line", rate

    def get_many(self, keys: Sequence[str]) -> list[Value | None]:
        found = super().get_many(keys)
        time.sleep(sum(len(value) for value in found if value is not None) / self.rate)
        return found


def library(store: ChunkCacheStore, costs: LoadCosts | None) -> ChunkLibrary:
    return ChunkLibrary(model_of(), lead_of, store, "fp32", costs=costs)


# --- arithmetic ---


@given(
    st.lists(
        st.tuples(st.sampled_from(["load", "decode", "read"]), st.floats(1e-3, 10), st.integers(1, 500)), max_size=20
    ),
    st.integers(1, 500),
)
def test_the_cheaper_way_is_taken_by_the_moving_averages(seen: list[tuple[str, float, int]], wanted: int) -> None:
    costs, width = LoadCosts(), 100
    averages: dict[str, float] = {}
    for what, seconds, count in [("load", 0.5, 10), ("decode", 0.1, 10), ("read", 1.0, 10), *seen]:
        if what == "load":
            costs.loaded("line", count * width, seconds)
        elif what == "decode":
            costs.decoded(count * width, count, seconds)
        else:
            costs.read(count, seconds)
        new = seconds / count
        averages[what] = new if what not in averages else WEIGHT * new + (1 - WEIGHT) * averages[what]
    load, read = averages["load"] + averages["decode"], averages["read"]
    if abs(load - read) > 1e-9 * load:
        assert costs.worth("line", wanted) == (load < read)
    assert costs.seconds("line", wanted) == pytest.approx((wanted * load, wanted * read))
    assert costs.break_even == pytest.approx(width / read)


def test_what_is_not_known_is_loaded_but_for_one_slow_chunk() -> None:
    costs = LoadCosts()
    assert costs.worth("line", 10**9)
    assert costs.seconds("line", 5) == (None, None)
    costs.loaded("line", 100, UNKNOWN)
    costs.decoded(100, 1, 0.0)
    assert [costs.worth("line", tokens) for tokens in (1, 2, 2, 2)] == [True, False, True, True]


def test_a_slow_tier_is_asked_for_one_of_many_and_another_tier_is_another() -> None:
    costs = LoadCosts()
    costs.loaded("line", 100, 1.0)
    costs.loaded("near", 100, 0.01)
    costs.decoded(100, 1, 0.0)
    costs.read(1, 0.1)
    asked = [costs.worth("line", 1) for _ in range(3 * PROBE)]
    assert [at for at, worth in enumerate(asked) if worth] == [PROBE - 1, 2 * PROBE - 1, 3 * PROBE - 1]
    assert costs.worth("near", 1)


def test_threads_observe_and_ask_at_once_and_names_are_bounded() -> None:
    costs = LoadCosts()

    def work(_: int) -> None:
        for i in range(300):
            costs.loaded(f"tier {i % 40}", 100, 0.2)
            costs.decoded(100, 1, 0.1)
            costs.read(1, 0.5)
            assert costs.worth(f"tier {i % 40}", 3)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert costs.seconds("another tier", 1)[0] == pytest.approx(0.3)
    assert costs.seconds("another tier", 1)[1] == pytest.approx(0.5)


# --- stores that are slow ---


def test_stores_slower_than_the_model_are_left_and_faster_ones_asked() -> None:
    line = SlowStore(LARGE)
    wanted = library(line, None).find(CHUNKS, Meter()).states
    costs = LoadCosts()
    mine = library(TieredStore([MemoryStore(LARGE), line]), costs)
    line.rate = SLOW
    first, second, third = Meter(), Meter(), Meter()
    assert not mine.find(CHUNKS[:1], first).read  # nothing was known
    assert mine.find(CHUNKS[1:2], second).read  # one, to know how fast the model is
    started = time.perf_counter()
    rest = mine.find(CHUNKS[2:], third)
    assert time.perf_counter() - started < len(CHUNKS[2:]) * 0.5
    assert rest.read == frozenset(CHUNKS[2:])
    assert all(same(rest.states[ids], wanted[ids]) for ids in CHUNKS[2:])
    assert third.reuse.slower == {"line": 40 * len(CHUNKS[2:])}
    assert "reading was faster than loading: 160 tokens from line" in third.reuse.notes
    assert line.stats().puts == len(CHUNKS)  # what it had was not sent again
    again = Meter()
    assert not mine.find(CHUNKS, again).read  # all are in the process now
    assert again.prefill == 0
    load, read = costs.seconds("line", 40)
    assert load is not None
    assert read is not None
    assert load > 10 * read


def test_what_a_slow_store_lacks_is_stored_there() -> None:
    line, costs = SlowStore(SLOW), LoadCosts()
    costs.loaded("line", 100, 1.0)
    costs.decoded(100, 1, 0.0)
    costs.read(1, 0.001)
    meter = Meter()
    mine = library(TieredStore([line]), costs)
    assert mine.find(CHUNKS, meter).read == frozenset(CHUNKS)
    assert (line.stats().puts, meter.reuse.slower) == (len(CHUNKS), {})


def test_a_store_that_becomes_fast_is_used_again() -> None:
    line, costs = SlowStore(LARGE), LoadCosts()
    mine = library(line, costs)
    mine.find(CHUNKS, Meter())
    mine.find(CHUNKS, Meter())
    costs.loaded("line", 10**4, 0.1)  # it was slow
    costs.loaded("line", 10**4, 0.1)
    reads = [bool(mine.find(CHUNKS[:1], Meter()).read) for _ in range(20 * PROBE)]
    assert reads[0]
    assert not any(reads[-PROBE:])


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize(("rate", "loads"), [(SLOW, False), (1e9, True)])
def test_redis_behind_a_line(redis: RedisServer, rate: float, loads: bool) -> None:
    library(RedisStore(redis.url), None).find(CHUNKS, Meter())
    with Throttle(redis.port, rate) as line:
        store = RedisStore(f"redis://127.0.0.1:{line.port}/0", timeout=60)
        mine = library(TieredStore([store]), LoadCosts())
        if loads:  # the model is known to take longer than such a line
            assert mine.costs is not None
            mine.costs.read(1, 1.0)
        mine.find(CHUNKS[:1], Meter())
        mine.find(CHUNKS[1:2], Meter())
        meter = Meter()
        found = mine.find(CHUNKS[2:], meter)
        assert found.read == (frozenset() if loads else frozenset(CHUNKS[2:]))
        assert set(meter.reuse.slower) == (set() if loads else {"redis"})
        store.close()
