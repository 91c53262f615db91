"""Tiers: filled from below, passed over when they do not answer, never a reason for an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag.config import settings_from
from rag.errors import CacheUnavailable
from rag.kv.disk import DiskStore
from rag.kv.key import chunk_key
from rag.kv.memory import MemoryStore
from rag.kv.opening import open_store
from rag.kv.redis import RedisStore
from rag.kv.tiered import TieredStore
from tests.rag.kv.chunks import FINGERPRINT, value
from tests.redis_server import RedisServer, free_port

KEYS = [chunk_key([n], FINGERPRINT) for n in range(1, 9)]


@pytest.fixture
def dead() -> Iterator[RedisStore]:
    """A Redis that is not there."""
    store = RedisStore(f"redis://127.0.0.1:{free_port()}/0", timeout=0.5, interval=60)
    yield store
    store.close()


def test_a_value_found_below_fills_the_tiers_above(tmp_path: Path) -> None:
    memory, files = MemoryStore(10_000), DiskStore(tmp_path, 10_000)
    files.put(KEYS[0], value(0))
    store = TieredStore([memory, files])
    assert store.get_many([KEYS[0], KEYS[1]]) == [value(0), None]
    assert memory.get(KEYS[0]) == value(0)
    store.get(KEYS[0])
    assert files.stats().hits == 1  # the second time it was not asked
    assert (store.stats().hits, store.stats().misses) == (2, 1)


def test_a_value_too_large_for_one_tier_is_kept_by_another(tmp_path: Path) -> None:
    memory, files = MemoryStore(100), DiskStore(tmp_path, 10_000)
    store = TieredStore([memory, files])
    assert store.put(KEYS[0], value(0))
    assert store.get(KEYS[0]) == value(0)
    assert not store.put(KEYS[1], value(1, 20_000))
    assert store.stats().refused == 1


def test_a_tier_that_does_not_answer_is_passed_over_and_reported(dead: RedisStore) -> None:
    store = TieredStore([MemoryStore(10_000), dead])
    assert store.put(KEYS[0], value(0))
    assert store.get_many(KEYS[:2]) == [value(0), None]
    assert store.contains(KEYS[0])
    assert not store.contains(KEYS[1])
    assert list(store.keys()) == [KEYS[0]]
    stats = store.stats()
    assert stats.errors >= 4
    assert stats.trouble.startswith("Redis ")
    memory, redis = store.tiers_stats()
    assert (memory.errors, memory.entries) == (0, 1)
    assert (redis.name, redis.errors) == ("redis", 1)


def test_nothing_that_answers_is_a_miss(dead: RedisStore) -> None:
    store = TieredStore([dead])
    assert store.get(KEYS[0]) is None
    assert not store.put(KEYS[0], value(0))


def test_a_deletion_that_did_not_reach_every_tier_says_so(dead: RedisStore) -> None:
    memory = MemoryStore(10_000)
    memory.put(KEYS[0], value(0))
    store = TieredStore([dead, memory])
    with pytest.raises(CacheUnavailable, match=r"not deleted everywhere \(redis: Redis does not answer"):
        store.delete([KEYS[0]])
    assert not memory.contains(KEYS[0])


def test_without_tiers_there_is_no_store() -> None:
    with pytest.raises(ValueError, match="at least one tier"):
        TieredStore([])


# --- from settings ---


@pytest.mark.parametrize(
    ("cache", "name"),
    [
        ({}, "memory+files"),
        ({"store": "files", "memory_mb": 0}, "files"),
        ({"store": "memory"}, "memory"),
        ({"store": "redis", "redis_url": "redis://r"}, "memory+redis"),
    ],
)
def test_settings_name_the_store(tmp_path: Path, cache: dict[str, object], name: str) -> None:
    store = open_store(settings_from({"cache": cache}).caching(), tmp_path)
    assert store is not None
    assert store.name == name
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_kept_where_the_settings_say_none(tmp_path: Path) -> None:
    assert open_store(settings_from({"cache": {"store": "none"}}).caching(), tmp_path) is None


def test_files_stand_in_the_home_directory_or_where_the_settings_say(tmp_path: Path) -> None:
    for cache, where in (({}, "home/chunk_states"), ({"directory": str(tmp_path / "other")}, "other")):
        store = open_store(settings_from({"cache": cache}).caching(), tmp_path / "home")
        assert store is not None
        store.put(KEYS[0], value(0))
        assert (tmp_path / where / "ledger.sqlite").exists()
        store.close()


def test_settings_reach_redis(tmp_path: Path) -> None:
    with RedisServer() as server:
        settings = settings_from({"redis_url": server.url, "cache": {"ttl": 100, "redis_timeout": 5}})
        store = open_store(settings.caching(), tmp_path)
        assert store is not None
        store.put(KEYS[0], value(0))
        assert 90 < server.raw().ttl(KEYS[0]) <= 100
        store.close()


def test_what_came_up_from_below_and_is_asked_for_stays_longer_than_what_was_put_once() -> None:
    """GDSF: 100 uses of a value of unknown cost beside one use each of values at the same cost a byte."""
    low = MemoryStore(10**8)
    low.name = "files"
    low.put("hot", bytes(1000), 300.0)
    store = TieredStore([MemoryStore(3000), low])
    for _ in range(100):
        store.get("hot")
    for n in range(6):
        store.put(f"once{n}", bytes(1000), 300.0)
    assert "hot" in set(store.tiers[0].keys())
