"""What is forgotten is gone from every tier, wherever a passage was cut, and what is not stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag.errors import CacheUnavailable
from rag.kv.disk import DiskStore
from rag.kv.forgetting import forget_beginnings
from rag.kv.key import chunk_key
from rag.kv.memory import MemoryStore
from rag.kv.redis import RedisStore
from rag.kv.tiered import TieredStore
from tests.redis_server import RedisServer, free_port

LARGE = 10**8
PASSAGE = tuple(range(100, 140))


def filled(*tiers: MemoryStore | DiskStore | RedisStore) -> tuple[TieredStore, list[str], list[str]]:
    """A store with states of beginnings of PASSAGE, by two models, and states of other tokens."""
    store = TieredStore(tiers)
    doomed = [chunk_key(PASSAGE[:n], model) for n in (1, 7, 40) for model in ("m1", "m2")]
    others = [chunk_key(ids, "m1") for ids in (PASSAGE[1:], (*PASSAGE, 5), (5, *PASSAGE), (6,))]
    for name in [*doomed, *others]:
        store.put(name, b"value")
    return store, doomed, others


def test_every_beginning_is_deleted_from_all_tiers_and_nothing_else(tmp_path: Path) -> None:
    with RedisServer() as server:
        tiers = (MemoryStore(LARGE), DiskStore(tmp_path, LARGE), RedisStore(server.url, timeout=5))
        store, doomed, others = filled(*tiers)
        assert forget_beginnings(store, [PASSAGE, (9, 9)]) == len(doomed)
        for tier in tiers:
            assert sorted(tier.keys()) == sorted(others)
        assert forget_beginnings(store, iter([PASSAGE])) == 0
        assert forget_beginnings(store, []) == 0
        store.close()


def test_a_tier_that_does_not_answer_is_named_and_the_others_are_done() -> None:
    memory = MemoryStore(LARGE)
    store, _, others = filled(memory)
    both = TieredStore([memory, RedisStore(f"redis://127.0.0.1:{free_port()}/0", timeout=0.5)])
    with pytest.raises(CacheUnavailable, match=r"redis|Redis"):
        forget_beginnings(both, [PASSAGE])
    assert sorted(store.keys()) == sorted(others)
    empty = TieredStore([RedisStore(f"redis://127.0.0.1:{free_port()}/0", timeout=0.5)])
    with pytest.raises(CacheUnavailable):
        forget_beginnings(empty, [PASSAGE])
