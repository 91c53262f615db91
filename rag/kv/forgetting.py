"""Deleting what was read of a text, wherever it was cut: a cache must not remember what was deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

from rag.errors import BadCache, CacheUnavailable
from rag.kv.entries import parse_entry
from rag.kv.key import token_bytes
from rag.kv.slots import partner
from rag.kv.store import ChunkCacheStore, SharedStore
from rag.kv.tiered import TieredStore

_WORD = 4
_AT_ONCE = 1000


def forget_beginnings(store: ChunkCacheStore, passages: Iterable[Sequence[int]]) -> int:
    """Deletes everything stored of these passages and of every beginning of them: all models, tenants and variants.

    Variants of other passages that were read behind one of them go too, and what was read behind those: what they
    attended to is in them.
    What requests under way have read of them is not stored any more, or taken back: the store's generation, which they
    compare, is another before the names are looked through and once more when all is deleted.
    Returns how many values there were. Looks through all names once, and through the entries of all variants. Raises
    CacheUnavailable where a store, or a tier of it, did not answer: the states may still be there.
    """
    stored: dict[str, list[str]] = {}
    unheard = _outdate(store)
    names, troubles = _names(store)
    for name in names:
        stored.setdefault(name.split("}", 1)[0].rpartition("{")[2], []).append(name)
    doomed = _read_behind(store, names, stored)
    if stored:
        for passage in passages:
            doomed.update(*(stored[digest] for digest in _beginnings(passage) if digest in stored))
    chosen = sorted(doomed)
    deleted = sum(store.delete(chosen[at : at + _AT_ONCE]) for at in range(0, len(chosen), _AT_ONCE))
    troubles = troubles or unheard or _outdate(store)  # another process may have in memory what no tier has any more
    if troubles:
        raise CacheUnavailable("; ".join(troubles))
    return deleted


def _outdate(store: ChunkCacheStore) -> list[str]:
    """Tells whoever has the store that something is deleted; why that cannot be, if it cannot."""
    try:
        if isinstance(store, SharedStore):
            store.outdate()
    except CacheUnavailable as error:
        return [str(error)]
    return []


def _read_behind(store: ChunkCacheStore, names: set[str], stored: dict[str, list[str]]) -> set[str]:
    """Enters variants and their entries under every chunk they were read behind; those that tell none come back."""
    doomed = {name for name in names if partner(name)[0] == "c" and partner(name)[1] not in names}
    entries = sorted(name for name in names if partner(name)[0] == "i")
    for at in range(0, len(entries), _AT_ONCE):
        some = entries[at : at + _AT_ONCE]
        for name, value in zip(some, store.get_many(some), strict=True):
            both = [one for one in (name, partner(name)[1]) if one in names]
            try:
                context = parse_entry(value or b"").read()
            except BadCache:
                doomed.update(both)
                continue
            for digest in (*context.before, *context.through):
                stored.setdefault(digest, []).extend(both)
    return doomed


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
