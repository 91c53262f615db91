"""Deleting what was read of a text, wherever it was cut: a cache must not remember what was deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

from rag.errors import CacheUnavailable
from rag.kv.key import token_bytes
from rag.kv.store import ChunkCacheStore
from rag.kv.tiered import TieredStore

_WORD = 4
_AT_ONCE = 1000


def forget_beginnings(store: ChunkCacheStore, passages: Iterable[Sequence[int]]) -> int:
    """Deletes everything stored of these passages and of every beginning of them: all models, tenants and variants.

    Returns how many values there were. Looks through all names once. Raises CacheUnavailable where a store, or a
    tier of it, did not answer: the states may still be there.
    """
    stored: dict[str, list[str]] = {}
    names, troubles = _names(store)
    for name in names:
        stored.setdefault(name.split("}", 1)[0].rpartition("{")[2], []).append(name)
    doomed: set[str] = set()
    if stored:
        for passage in passages:
            doomed.update(*(stored[digest] for digest in _beginnings(passage) if digest in stored))
    chosen = sorted(doomed)
    deleted = sum(store.delete(chosen[at : at + _AT_ONCE]) for at in range(0, len(chosen), _AT_ONCE))
    if isinstance(store, TieredStore) and not troubles:
        store.outdate()  # another process may have in memory what no tier has any more
    if troubles:
        raise CacheUnavailable("; ".join(troubles))
    return deleted


def _names(store: ChunkCacheStore) -> tuple[set[str], list[str]]:
    """All names, and what the tiers said that did not answer."""
    names: set[str] = set()
    troubles = []
    for tier in store.tiers if isinstance(store, TieredStore) else (store,):
        try:
            names.update(tier.keys("kv"))
        except CacheUnavailable as error:
            troubles.append(str(error))
    return names, troubles


def _beginnings(ids: Sequence[int]) -> Iterator[str]:
    """``token_hash`` of the first token, the first two, and so on."""
    data, so_far = token_bytes(ids), blake2b(digest_size=16)
    for at in range(0, len(data), _WORD):
        so_far.update(data[at : at + _WORD])
        yield so_far.hexdigest()
