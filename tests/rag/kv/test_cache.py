"""States by tokens: nothing but the chunk that was asked for ever comes back, whatever stands in the store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rag.errors import CacheUnavailable
from rag.kv.cache import ChunkCache
from rag.kv.disk import DiskStore
from rag.kv.forgetting import forget_beginnings
from rag.kv.key import Fingerprint
from rag.kv.layout import encode
from rag.kv.memory import MemoryStore
from rag.kv.quantize import SCHEMES, Scheme
from rag.kv.redis import RedisStore
from rag.kv.states import ChunkStates
from rag.kv.store import ChunkCacheStore
from rag.kv.tiered import TieredStore
from tests.rag.kv.chunks import FINGERPRINT, chunk, same
from tests.redis_server import RedisServer, free_port

LARGE = 10**8


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def redis(server: RedisServer) -> Iterator[RedisStore]:
    server.raw().flushall()
    store = RedisStore(server.url, timeout=10)
    yield store
    store.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_states_come_back_from_redis_in_every_scheme(redis: RedisStore, scheme: Scheme) -> None:
    cache = ChunkCache(redis, FINGERPRINT, scheme, allow_int4=True)
    small, large = chunk(1, 7), chunk(2, 600, layers=9, heads=2, head_dim=128)  # 5.5 MB in bf16
    for states in (small, large):
        assert cache.put(states)
        found = cache.get(states.ids)
        assert found is not None
        assert (found.ids, found.behind, found.keys.dtype) == (states.ids, states.behind, states.keys.dtype)
        if scheme in ("bf16", "fp32"):
            assert same(found, states)
        else:
            assert (found.keys - states.keys).abs().max() < (0.5 if scheme == "int4" else 0.05)
    assert cache.report.hits == 2


def test_other_tokens_variants_models_schemes_and_tenants_share_nothing() -> None:
    store, states = MemoryStore(LARGE), chunk()
    cache = ChunkCache(store, FINGERPRINT)
    cache.put(states)
    assert same(cache.get(states.ids), states)
    assert cache.get(states.ids[:-1]) is None
    assert cache.get((*states.ids, 5)) is None
    assert cache.get(states.ids[::-1]) is None
    assert cache.get(states.ids, "other") is None
    assert ChunkCache(store, FINGERPRINT, "fp16").get(states.ids) is None
    for field in fields(Fingerprint):
        change: dict[str, Any] = {field.name: 2 if field.name == "version" else "other"}
        assert ChunkCache(store, replace(FINGERPRINT, **change)).get(states.ids) is None
    assert (cache.report.hits, cache.report.misses, cache.report.damaged) == (1, 4, 0)


def test_many_come_back_in_order_with_gaps() -> None:
    cache = ChunkCache(MemoryStore(LARGE), FINGERPRINT)
    one, two = chunk(1), chunk(2)
    cache.put(one)
    cache.put(two)
    found = cache.get_many([two.ids, (9, 9), one.ids, two.ids])
    assert [states and states.ids for states in found] == [two.ids, None, one.ids, two.ids]
    assert cache.get_many([]) == []


# --- what whoever can write to the store may have written ---


def swapped(cache: ChunkCache, states: ChunkStates) -> bytes:
    """Another chunk, sound in itself, under this chunk's name."""
    return bytes(encode(chunk(9, len(states.ids)), "bf16", cache.fingerprint.digest))


def of_another_model(cache: ChunkCache, states: ChunkStates) -> bytes:
    return bytes(encode(states, "bf16", replace(cache.fingerprint, weights="other").digest))


def of_another_variant(cache: ChunkCache, states: ChunkStates) -> bytes:
    return bytes(encode(states, "bf16", cache.fingerprint.digest, "other"))


def of_another_scheme(cache: ChunkCache, states: ChunkStates) -> bytes:
    return bytes(encode(states, "int8", cache.fingerprint.digest))


def sound(cache: ChunkCache, states: ChunkStates) -> bytes:
    return bytes(encode(states, "bf16", cache.fingerprint.digest))


def truncated(cache: ChunkCache, states: ChunkStates) -> bytes:
    return sound(cache, states)[:-7]


def flipped(cache: ChunkCache, states: ChunkStates) -> bytes:
    value = bytearray(sound(cache, states))
    value[-100] ^= 4
    return bytes(value)


def of_another_version(cache: ChunkCache, states: ChunkStates) -> bytes:
    value = sound(cache, states)
    return value[:4] + b"\x09" + value[5:]


def empty(cache: ChunkCache, states: ChunkStates) -> bytes:
    return b""


def half_a_manifest(cache: ChunkCache, states: ChunkStates) -> bytes:
    return b"KVSG\0\0"


DAMAGES = [
    swapped, of_another_model, of_another_variant, of_another_scheme, truncated, flipped, of_another_version, empty,
    half_a_manifest,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_value_that_is_not_the_chunk_is_a_miss_is_deleted_and_read_anew(
    server: RedisServer, redis: RedisStore, damage: Any
) -> None:
    states, raw = chunk(1, 7), server.raw()
    cache = ChunkCache(redis, FINGERPRINT)
    raw.set(cache.key(states.ids), damage(cache, states))
    assert cache.get(states.ids) is None
    assert raw.keys("*") == []
    assert cache.report.damaged or redis.stats().trouble
    assert same(cache.get_or_make(states.ids, lambda: states), states)
    assert same(cache.get(states.ids), states)


def test_a_value_that_nobody_sealed_is_a_miss(server: RedisServer, redis: RedisStore) -> None:
    states = chunk()
    sealed = ChunkCache(redis, FINGERPRINT, secret=b"ours")
    server.raw().set(sealed.key(states.ids), sound(sealed, states))
    assert sealed.get(states.ids) is None
    assert "not sealed" in sealed.report.trouble
    sealed.put(states)
    assert same(sealed.get(states.ids), states)
    assert ChunkCache(redis, FINGERPRINT, secret=b"theirs").get(states.ids) is None


def test_damage_below_does_not_stay_above(tmp_path: Path) -> None:
    memory, files = MemoryStore(LARGE), DiskStore(tmp_path, LARGE)
    cache, states = ChunkCache(TieredStore([memory, files]), FINGERPRINT), chunk()
    files.put(cache.key(states.ids), flipped(cache, states))
    assert cache.get(states.ids) is None
    assert list(memory.keys()) == list(files.keys()) == []


# --- stores that do not answer ---


def test_a_store_that_does_not_answer_is_a_miss_that_is_reported() -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}/0", timeout=0.5)
    cache, states = ChunkCache(store, FINGERPRINT), chunk()
    assert cache.get(states.ids) is None
    assert not cache.put(states)
    assert not cache.contains(states.ids)
    assert same(cache.get_or_make(states.ids, lambda: states), states)
    assert cache.report.unavailable == 2 + 1 + 2
    assert "Redis" in cache.report.trouble
    with pytest.raises(CacheUnavailable):
        cache.delete([states.ids])


# --- once, bounded, deleted ---


def test_threads_that_ask_for_one_chunk_read_it_once() -> None:
    cache, states, made = ChunkCache(MemoryStore(LARGE), FINGERPRINT), chunk(), []
    together = threading.Barrier(6)

    def make() -> ChunkStates:
        made.append(1)
        threading.Event().wait(0.05)
        return states

    def ask(_: int) -> bool:
        together.wait(5)
        return same(cache.get_or_make(states.ids, make), states)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, range(6)))
    assert made == [1]


def test_an_error_of_the_making_is_not_kept() -> None:
    cache, states = ChunkCache(MemoryStore(LARGE), FINGERPRINT), chunk()

    def fails() -> ChunkStates:
        raise MemoryError

    with pytest.raises(MemoryError):
        cache.get_or_make(states.ids, fails)
    assert same(cache.get_or_make(states.ids, lambda: states), states)


@pytest.mark.parametrize("kind", ["memory", "files", "redis"])
def test_500_questions_over_a_fixed_corpus_store_no_more_than_the_corpus(
    kind: str, redis: RedisStore, tmp_path: Path
) -> None:
    stores: dict[str, ChunkCacheStore] = {
        "memory": MemoryStore(LARGE),
        "files": DiskStore(tmp_path, LARGE),
        "redis": redis,
    }
    cache = ChunkCache(stores[kind], FINGERPRINT)
    corpus = [chunk(n) for n in range(20)]
    hits = []
    for question in range(500):
        before = cache.report.hits
        for place in (question % 20, (7 * question) % 20, (3 * question + 1) % 20):
            cache.get_or_make(corpus[place].ids, lambda p=place: corpus[p])  # type: ignore[misc]
        hits.append(cache.report.hits - before)
    assert cache.store.stats().entries == 20
    assert sum(hits) == 3 * 500 - 20
    assert set(hits[100:]) == {3}


def test_a_document_s_chunks_are_deleted_of_every_model_tenant_and_variant(redis: RedisStore) -> None:
    store = TieredStore([MemoryStore(LARGE), redis])
    gone, kept = chunk(1), chunk(2)
    caches = [
        ChunkCache(store, FINGERPRINT),
        ChunkCache(store, replace(FINGERPRINT, weights="other"), "int8"),
        ChunkCache(store, replace(FINGERPRINT, tenant="other")),
    ]
    for cache in caches:
        cache.put(gone)
        cache.put(kept)
    caches[0].put(gone, "v1")
    assert forget_beginnings(store, [gone.ids, (5, 5)]) == 3 + 1
    assert all(cache.get(gone.ids) is None and cache.get(kept.ids) is not None for cache in caches)
    assert caches[0].get(gone.ids, "v1") is None
    assert forget_beginnings(store, []) == 0
    assert caches[0].delete([kept.ids]) == 1
    assert caches[2].get(kept.ids) is not None


def test_states_that_cannot_be_stored_are_the_caller_s_mistake() -> None:
    cache = ChunkCache(MemoryStore(LARGE), FINGERPRINT)
    bad = chunk()
    bad.keys[0, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match="inf or nan"):
        cache.put(bad)
    with pytest.raises(ValueError, match="int4 is not allowed"):
        ChunkCache(MemoryStore(LARGE), FINGERPRINT, "int4")


def test_dearer_chunks_stay_longer() -> None:
    cache = ChunkCache(MemoryStore(3 * len(sound(ChunkCache(MemoryStore(1), FINGERPRINT), chunk()))), FINGERPRINT)
    cache.put(chunk(0), cost=1000.0)
    for n in range(1, 8):
        cache.put(chunk(n), cost=1.0)
    assert cache.contains(chunk(0).ids)
    assert not cache.contains(chunk(1).ids)
