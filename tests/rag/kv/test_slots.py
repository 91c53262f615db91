"""Slots of variants: whatever stands in the store, what comes out is a variant as it was read, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from rag.errors import CacheUnavailable
from rag.kv.cache import ChunkCache
from rag.kv.craft import Context, Variant
from rag.kv.disk import DiskStore
from rag.kv.entries import encode_entry
from rag.kv.forgetting import forget_beginnings
from rag.kv.key import token_hash
from rag.kv.layout import encode
from rag.kv.memory import MemoryStore
from rag.kv.redis import RedisStore
from rag.kv.slots import VariantSlots, partner
from rag.kv.store import ChunkCacheStore, Value
from rag.kv.tiered import TieredStore
from tests.rag.kv.chunks import FINGERPRINT, chunk, same
from tests.redis_server import RedisServer, free_port

LARGE = 10**8
IDS = chunk(1).ids
FIRST, SECOND = (7, 8, 9), (8, 8)


def variant(front: tuple[int, ...] = FIRST, seed: int = 1) -> Variant:
    """A chunk's states, drawn from a seed, as read behind one other chunk."""
    context = Context((token_hash(front),), (2.5,), 0.75, np.ones(5, np.float32), token_hash(front))
    return Variant(chunk(seed), context)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def raw(server: RedisServer) -> Redis:
    client: Redis = server.raw()
    client.flushall()
    return client


def slots_in(server: RedisServer, count: int = 3, secret: bytes = b"") -> VariantSlots:
    """As another process has them: a store of its own, memory in front."""
    store = TieredStore([MemoryStore(LARGE), RedisStore(server.url, timeout=10)])
    return VariantSlots(ChunkCache(store, FINGERPRINT, secret=secret), count)


def loaded(slots: VariantSlots) -> list[Variant | None]:
    known = slots.contexts([IDS])[IDS]
    return slots.load([(IDS, slot, context) for slot, context in known.items()])


@pytest.mark.parametrize("kind", ["memory", "files", "redis"])
@pytest.mark.parametrize("secret", [b"", b"ours"])
def test_variants_come_back_from_their_slots(
    kind: str, secret: bytes, raw: Redis, server: RedisServer, tmp_path: Path
) -> None:
    stores: dict[str, Callable[[], ChunkCacheStore]] = {
        "memory": lambda: MemoryStore(LARGE),
        "files": lambda: DiskStore(tmp_path, LARGE),
        "redis": lambda: RedisStore(server.url, timeout=10),
    }
    slots = VariantSlots(ChunkCache(stores[kind](), FINGERPRINT, secret=secret), 2)
    assert slots.contexts([IDS, IDS, (5,)]) == {IDS: {}, (5,): {}}
    assert slots.keep(variant(FIRST, 1), cost=1.0)
    assert not slots.keep(variant(FIRST, 1), cost=1.0)  # it is there
    assert slots.keep(variant(SECOND, 1), cost=1.0)
    assert not slots.keep(variant((6,), 1), cost=1.0)  # no slot is free
    known = slots.contexts([IDS])[IDS]
    assert {slot: context.before for slot, context in known.items()} == {
        0: (token_hash(FIRST),), 1: (token_hash(SECOND),),
    }  # fmt: skip
    for found, wanted in zip(loaded(slots), (variant(FIRST), variant(SECOND)), strict=True):
        assert found is not None
        assert same(found.states, wanted.states)
        assert (found.context.before, found.context.front) == (wanted.context.before, wanted.context.front)
        np.testing.assert_array_equal(found.context.tokens, wanted.context.tokens)
    assert slots.cache.report.damaged == 0


# --- what whoever can write to the store may have written ---


def flipped(value: bytes) -> bytes:
    return value[:-40] + bytes([value[-40] ^ 4]) + value[-39:]


def of_another_chunk(value: bytes) -> Value:
    return encode(chunk(9), "bf16", FINGERPRINT.stored_as("bfloat16/bf16").digest, "c0", context=variant().context)


def of_another_slot(value: bytes) -> Value:
    return encode(chunk(1), "bf16", FINGERPRINT.stored_as("bfloat16/bf16").digest, "c1", context=variant().context)


def entry_of_another_chunk(value: bytes) -> Value:
    digest = FINGERPRINT.stored_as("bfloat16/bf16").digest
    return encode_entry(token_hash((5,)), digest, "c0", variant().context)


def entry_of_another_model(value: bytes) -> Value:
    return encode_entry(token_hash(IDS), "00" * 8, "c0", variant().context)


DAMAGES: list[tuple[str, Callable[[bytes], Value]]] = [
    ("c0", flipped), ("c0", lambda value: value[:-3]), ("c0", of_another_chunk), ("c0", of_another_slot),
    ("c0", lambda _: b""), ("i0", flipped), ("i0", lambda value: value[:-3]), ("i0", entry_of_another_chunk),
    ("i0", entry_of_another_model), ("i0", lambda _: b"KVSI"), ("i0", lambda _: bytes(2**19)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_slot_that_is_damaged_is_a_miss_and_is_filled_anew(
    name: str, damage: Callable[[bytes], Value], raw: Redis, server: RedisServer
) -> None:
    slots = slots_in(server)
    key = slots.cache.key(IDS, name)
    assert slots.keep(variant(), cost=1.0)
    value = raw.get(key)
    assert isinstance(value, bytes)
    raw.set(key, bytes(damage(value)))
    other = slots_in(server)
    assert [one for one in loaded(other) if one] == []
    assert other.cache.report.damaged == 1
    assert other.contexts([IDS])[IDS] == {}
    assert other.keep(variant(), cost=1.0)
    (found,) = loaded(slots_in(server))
    assert found is not None
    assert same(found.states, chunk(1))


def test_an_entry_whose_variant_is_gone_leaves_its_slot(raw: Redis, server: RedisServer) -> None:
    slots = slots_in(server)
    slots.keep(variant(), cost=1.0)
    raw.delete(slots.cache.key(IDS, "c0"))
    other = slots_in(server)
    assert loaded(other) == [None]
    assert loaded(other) == []
    assert other.keep(variant(SECOND), cost=1.0)
    assert len(loaded(slots_in(server))) == 1


def test_what_a_killed_process_left_without_an_entry_is_replaced(raw: Redis, server: RedisServer) -> None:
    slots = slots_in(server)
    slots.keep(variant(FIRST, 1), cost=1.0)
    raw.delete(slots.cache.key(IDS, "i0"))
    other = slots_in(server)
    assert loaded(other) == []
    assert other.keep(variant(SECOND), cost=1.0)
    (found,) = loaded(slots_in(server))
    assert found is not None
    assert found.context.before == (token_hash(SECOND),)


class Dying(MemoryStore):
    """A store that ends after so many values."""

    def __init__(self, puts: int) -> None:
        super().__init__(LARGE)
        self.left = puts

    def put(self, key: str, value: Value, cost: float | None = 1.0) -> bool:
        self.left -= 1
        if self.left < 0:
            raise CacheUnavailable("it ended")
        return super().put(key, value, cost)


@pytest.mark.parametrize("puts", [0, 1])
def test_a_store_that_ends_within_a_keeping_has_no_entry_without_its_variant(puts: int) -> None:
    store = Dying(puts)
    slots = VariantSlots(ChunkCache(store, FINGERPRINT), 3)
    assert not slots.keep(variant(), cost=1.0)
    assert list(store.keys()) == [slots.cache.key(IDS, "c0")][:puts]
    assert slots.contexts([IDS])[IDS] == {}


def test_a_slot_that_was_filled_anew_since_its_entry_was_read_is_a_miss_and_the_entry_is_mended(
    raw: Redis, server: RedisServer
) -> None:
    slots_in(server).keep(variant(FIRST), cost=1.0)
    one = slots_in(server)
    known = one.contexts([IDS])[IDS]
    raw.delete(*raw.keys("kv1:*"))
    two = slots_in(server)
    two.keep(variant(SECOND), cost=1.0)
    assert one.load([(IDS, 0, known[0])]) == [None]
    (found,) = loaded(one)
    assert found is not None
    assert found.context.before == (token_hash(SECOND),)
    assert one.cache.report.damaged == 0


def test_processes_that_fill_slots_at_once_leave_only_variants_as_they_were_read(
    raw: Redis, server: RedisServer
) -> None:
    fronts = [(n, n) for n in range(6)]

    def fill(front: tuple[int, ...]) -> None:
        slots_in(server, count=2).keep(variant(front), cost=1.0)

    for _ in range(5):
        raw.flushall()
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(fill, fronts))
        reader = slots_in(server, count=2)
        for _ in ("as they are", "mended"):
            for found in loaded(reader):
                assert found is None or (
                    same(found.states, chunk(1)) and found.context.front in map(token_hash, fronts)
                )
        assert all(loaded(reader))
        assert reader.cache.report.damaged == 0


def test_threads_fill_slots_one_after_the_other(raw: Redis, server: RedisServer) -> None:
    slots = slots_in(server)
    fronts = [(n, n) for n in (1, 2, 3, 1, 2)]
    with ThreadPoolExecutor(5) as pool:
        kept = list(pool.map(lambda front: slots.keep(variant(front), cost=1.0), fronts))
    assert sum(kept) == 3
    assert {context.front for context in slots.contexts([IDS])[IDS].values()} == {token_hash((n, n)) for n in (1, 2, 3)}


def test_a_store_that_does_not_answer_has_no_variants_and_is_reported() -> None:
    for store in (dead := RedisStore(f"redis://127.0.0.1:{free_port()}/0", timeout=0.5)), TieredStore([dead]):
        slots = VariantSlots(ChunkCache(store, FINGERPRINT), 3)
        assert slots.contexts([IDS]) == {IDS: {}}
        assert not slots.keep(variant(), cost=1.0)
        assert slots.load([(IDS, 0, variant().context)]) == [None]
        assert "Redis" in slots.cache.troubles[1]


def test_a_value_that_nobody_sealed_is_no_variant(raw: Redis, server: RedisServer) -> None:
    slots_in(server).keep(variant(), cost=1.0)
    sealed = slots_in(server, secret=b"ours")
    assert loaded(sealed) == []
    assert "not sealed" in sealed.cache.report.trouble
    assert sealed.keep(variant(), cost=1.0)
    assert all(loaded(slots_in(server, secret=b"ours")))


def test_a_variant_too_large_for_the_store_has_no_entry() -> None:
    store = MemoryStore(400)
    slots = VariantSlots(ChunkCache(store, FINGERPRINT), 3)
    assert not slots.keep(variant(), cost=1.0)
    assert list(store.keys()) == []


# --- forgetting ---


def test_every_variant_of_a_chunk_is_forgotten_and_every_one_that_was_read_behind_it(
    raw: Redis, server: RedisServer, tmp_path: Path
) -> None:
    tiers: list[ChunkCacheStore] = [MemoryStore(LARGE), DiskStore(tmp_path, LARGE), RedisStore(server.url, timeout=10)]
    store = TieredStore(tiers)
    slots = VariantSlots(ChunkCache(store, FINGERPRINT), 3)
    cache, other = slots.cache, chunk(2)
    for states in (chunk(1), other):
        cache.put(states)
        for front in (FIRST, SECOND):
            slots.keep(Variant(states, variant(front).context), cost=1.0)
    assert forget_beginnings(store, [FIRST]) == 2 * 2  # of each the variant behind it, and its entry
    for ids in (IDS, other.ids):
        assert [context.before for context in slots.contexts([ids])[ids].values()] == [(token_hash(SECOND),)]
    assert forget_beginnings(store, [(*IDS, 4)]) == 1 + 2  # by itself, and the other variant
    assert cache.get(IDS) is None
    assert slots.contexts([IDS])[IDS] == {}
    assert cache.get(other.ids) is not None
    assert forget_beginnings(store, [other.ids]) == 1 + 2
    assert all(list(tier.keys("kv")) == [] for tier in tiers)
    assert raw.keys("kv*") == []


def test_variants_that_cannot_say_behind_what_they_were_read_are_forgotten_with_any(
    raw: Redis, server: RedisServer
) -> None:
    slots = slots_in(server)
    for front in (FIRST, SECOND):
        slots.keep(variant(front), cost=1.0)
    raw.delete(slots.cache.key(IDS, "i0"))
    raw.setrange(slots.cache.key(IDS, "i1"), 9, b"??")
    forget_beginnings(slots_in(server).cache.store, [(99, 98)])
    assert raw.keys("kv*") == []


def test_names_of_slots_know_each_other() -> None:
    cache = ChunkCache(MemoryStore(1), FINGERPRINT)
    states, entry = cache.key(IDS, "c1"), cache.key(IDS, "i1")
    assert partner(states) == ("c", entry)
    assert partner(entry) == ("i", states)
    assert partner(cache.key(IDS)) == ("", "")
