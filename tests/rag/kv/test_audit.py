"""What is audited of variants: their bytes, their contexts, and that each has its entry."""

from __future__ import annotations

import numpy as np

from rag.kv.audit import check_values
from rag.kv.cache import ChunkCache
from rag.kv.craft import Context, Variant
from rag.kv.key import token_hash
from rag.kv.layout import encode
from rag.kv.memory import MemoryStore
from rag.kv.slots import VariantSlots
from tests.rag.kv.chunks import FINGERPRINT, chunk

FRONT = token_hash((7,))
CONTEXT = Context((FRONT,), (2.5,), 0.75, np.ones(5, np.float32), FRONT)


def filled() -> tuple[MemoryStore, ChunkCache]:
    """A chunk as read by itself, and a variant of it with its entry."""
    store = MemoryStore(10**7)
    cache = ChunkCache(store, FINGERPRINT, secret=b"ours")
    cache.put(chunk(1))
    assert VariantSlots(cache, 2).keep(Variant(chunk(1), CONTEXT), cost=1.0)
    return store, cache


def put(store: MemoryStore, name: str, value: bytes) -> None:
    store.delete([name])
    store.put(name, value)


def test_sound_variants_pass_and_are_counted() -> None:
    store, _ = filled()
    found = check_values(store, sorted(store.keys()), b"ours")
    assert (found.values, found.variants, found.apart, found.passed) == (3, 1, 0, True)


def test_variants_and_entries_that_are_not_what_was_written_are_named() -> None:
    for variant, place in (("c0", -50), ("c0", 300), ("i0", 20), ("i0", -1)):
        store, cache = filled()
        name = cache.key(chunk(1).ids, variant)
        value = bytearray(store.get(name) or b"")
        value[place] ^= 4
        put(store, name, bytes(value))
        assert list(check_values(store, sorted(store.keys()), b"ours").damaged) == [name]


def test_a_value_under_another_kind_of_name_is_named() -> None:
    store, cache = filled()
    ids = chunk(1).ids
    alone, variant, entry = (cache.key(ids, name) for name in ("0", "c0", "i0"))
    other = encode(chunk(1), "bf16", cache.digest, "c0", secret=b"ours")
    read_behind = encode(chunk(1), "bf16", cache.digest, "0", secret=b"ours", context=CONTEXT)
    put(store, variant, bytes(other))  # says nothing of a context
    put(store, alone, bytes(read_behind))
    moved = bytes(store.get(entry) or b"")
    put(store, cache.key(ids, "i1"), moved)
    found = check_values(store, sorted(store.keys()), b"ours")
    assert sorted(found.damaged) == sorted([alone, variant, cache.key(ids, "i1")])


def test_halves_of_a_slot_are_counted_and_are_no_damage() -> None:
    store, cache = filled()
    store.delete([cache.key(chunk(1).ids, "i0")])
    found = check_values(store, sorted(store.keys()), b"ours")
    assert (found.apart, found.passed) == (1, True)
