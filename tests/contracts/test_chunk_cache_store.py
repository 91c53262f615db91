"""The contract of ChunkCacheStore, for every store; Redis is a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rag.kv.disk import DiskStore
from rag.kv.key import chunk_key
from rag.kv.memory import MemoryStore
from rag.kv.redis import RedisStore
from rag.kv.store import ChunkCacheStore, Value
from rag.kv.tiered import TieredStore
from tests.rag.kv.chunks import FINGERPRINT, value
from tests.redis_server import RedisServer

CAPACITY = 40 * 2**20
SIZES = (1, 200, 4 * 2**20 - 64, 4 * 2**20 - 63, 9 * 2**20)
KEYS = [chunk_key((7, n), FINGERPRINT) for n in range(1, 12)]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(params=["memory", "files", "redis", "redis-unix", "memory+files", "memory+redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChunkCacheStore]:
    made: dict[str, ChunkCacheStore] = {}
    for name in request.param.split("+"):
        if name.startswith("redis"):
            server = request.getfixturevalue("server")
            server.raw().flushall()
            made[name] = RedisStore(server.unix_url if name == "redis-unix" else server.url, timeout=10)
        else:
            made[name] = MemoryStore(CAPACITY) if name == "memory" else DiskStore(tmp_path / "states", CAPACITY)
    several = len(made) > 1
    opened = TieredStore(list(made.values())) if several else made[request.param]
    yield opened
    opened.close()


def test_is_a_store(store: ChunkCacheStore) -> None:
    assert isinstance(store, ChunkCacheStore)


@pytest.mark.parametrize("nbytes", SIZES)
def test_gives_back_what_was_put(store: ChunkCacheStore, nbytes: int) -> None:
    stored = value(1, nbytes)
    assert store.put(KEYS[0], stored)
    found = store.get(KEYS[0])
    assert found is not None
    assert bytes(found) == stored
    assert store.contains(KEYS[0])


def test_takes_bytes_bytearrays_and_views(store: ChunkCacheStore) -> None:
    plain = value(1)
    forms: tuple[Value, ...] = (plain, bytearray(plain), memoryview(plain))
    for key, given in zip(KEYS, forms, strict=False):
        assert store.put(key, given)
        assert bytes(store.get(key) or b"") == plain


def test_what_was_never_put_is_not_there(store: ChunkCacheStore) -> None:
    assert store.get(KEYS[0]) is None
    assert not store.contains(KEYS[0])
    assert store.delete([KEYS[0]]) == 0
    assert list(store.keys()) == []


def test_many_come_back_in_the_order_asked_for(store: ChunkCacheStore) -> None:
    for n in (1, 2, 3):
        store.put(KEYS[n], value(n))
    asked = [KEYS[3], KEYS[0], KEYS[1], KEYS[3], *KEYS[4:], KEYS[2]]
    expected = [value(3), None, value(1), value(3), *[None] * len(KEYS[4:]), value(2)]
    assert [found if found is None else bytes(found) for found in store.get_many(asked)] == expected
    assert store.get_many([]) == []


def test_a_second_put_of_a_name_changes_nothing(store: ChunkCacheStore) -> None:
    for nbytes in (200, 5 * 2**20):
        assert store.put(KEYS[0], value(1, nbytes))
        assert store.put(KEYS[0], value(2, nbytes))
        assert bytes(store.get(KEYS[0]) or b"") == value(1, nbytes)
        assert store.delete([KEYS[0]]) == 1


@pytest.mark.parametrize("nbytes", [200, 9 * 2**20])
def test_deleted_is_gone_and_counted_once(store: ChunkCacheStore, nbytes: int) -> None:
    store.put(KEYS[0], value(1, nbytes))
    store.put(KEYS[1], value(2))
    assert store.delete([KEYS[0], KEYS[0], KEYS[2]]) == 1
    assert store.get(KEYS[0]) is None
    assert not store.contains(KEYS[0])
    assert bytes(store.get(KEYS[1]) or b"") == value(2)
    assert store.put(KEYS[0], value(3))
    assert bytes(store.get(KEYS[0]) or b"") == value(3)


def test_names_are_listed_once_and_by_their_beginning(store: ChunkCacheStore) -> None:
    store.put(KEYS[0], value(1))
    store.put(KEYS[1], value(2, 9 * 2**20))
    variant = chunk_key((7, 1), FINGERPRINT, "other")
    store.put(variant, value(3))
    assert sorted(store.keys()) == sorted([KEYS[0], KEYS[1], variant])
    assert sorted(store.keys(KEYS[0][:40])) == sorted([KEYS[0], variant])
    assert list(store.keys("kv1:*")) == list(store.keys("kv1:[{]")) == []


def test_counts_hits_misses_entries_and_bytes(store: ChunkCacheStore) -> None:
    store.put(KEYS[0], value(1, 300))
    store.put(KEYS[1], value(2, 200))
    store.get_many([KEYS[0], KEYS[1], KEYS[2]])
    store.get(KEYS[0])
    stats = store.stats()
    assert (stats.hits, stats.misses, stats.puts) == (2 + 1, 1, 2)
    assert (stats.entries, stats.nbytes) == (2, 300 + 200)
    assert (stats.errors, stats.trouble) == (0, "")


def test_threads_at_once_see_whole_values(store: ChunkCacheStore) -> None:
    def turn(n: int) -> bool:
        key = KEYS[n % 3]
        store.put(key, value(n % 3, 100_000))
        found = store.get(key)
        if n % 5 == 0:
            store.delete([key])
        return found is None or bytes(found) == value(n % 3, 100_000)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(turn, range(60)))


def test_a_value_larger_than_the_bound_is_refused_and_drives_nothing_out(tmp_path: Path) -> None:
    for bounded in (MemoryStore(1000), DiskStore(tmp_path, 1000)):
        assert bounded.put(KEYS[0], value(1, 600))
        assert not bounded.put(KEYS[1], value(2, 1001))
        assert bounded.get(KEYS[0]) == value(1, 600)
        assert (bounded.stats().refused, bounded.stats().evicted) == (1, 0)


def test_may_be_closed_twice(store: ChunkCacheStore) -> None:
    store.put(KEYS[0], value(1))
    store.close()
    store.close()
