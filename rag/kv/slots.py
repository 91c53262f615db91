"""The variants of a chunk in the store: a few slots, and of each an entry by which to choose without loading states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from threading import Lock

from rag.errors import BadCache, CacheUnavailable
from rag.kv.cache import ChunkCache
from rag.kv.craft import Context, Ids, Variant
from rag.kv.entries import Entry, encode_entry, parse_entry
from rag.kv.flight import SingleFlight
from rag.kv.key import token_hash
from rag.kv.layout import encode
from rag.kv.store import Value

_SLOT = re.compile(r"(.+:)([ci])(\d+)")


class VariantSlots:
    """At most ``count`` variants a chunk, in slots 0, 1, ...: slot n has its states as ``c{n}``, its entry as ``i{n}``.

    States are written before their entry, and a name is not written twice: what a killed process left without an entry
    is replaced, what an entry names and is not there, not sound or another variant is a miss, and the entry is mended.
    Of processes that fill one slot at once the last to write has it; a variant says itself behind what it was read, so
    whoever loads it is right. Nothing here raises for the store.
    """

    def __init__(self, cache: ChunkCache, count: int) -> None:
        self.cache, self.count = cache, count
        self.flights: SingleFlight[None] = SingleFlight()
        """Prompts whose passages are being read in place."""
        self._keeping = Lock()

    def contexts(self, chunks: Iterable[Ids]) -> dict[Ids, dict[int, Context]]:
        """Of each chunk its slots that are taken, and behind what their variants were read; no ``tokens``."""
        once = list(dict.fromkeys(chunks))
        places = [(ids, slot) for ids in once for slot in range(self.count)]
        names = [self._entry(*place) for place in places]
        found: dict[Ids, dict[int, Context]] = {ids: {} for ids in once}
        for (ids, slot), name, value in zip(places, names, self.cache.values(names), strict=True):
            if value is not None:
                try:
                    found[ids][slot] = self._expected(value, ids, slot)
                except BadCache as error:
                    self._miss([name], error)
        return found

    def load(self, wanted: Sequence[tuple[Ids, int, Context]]) -> list[Variant | None]:
        """The variants in these slots, each with the context its entry had; None where it is not there as that says."""
        names = [self.cache.key(ids, f"c{slot}") for ids, slot, _ in wanted]
        values = self.cache.values(names)
        return [self._loaded(name, value, *one) for name, value, one in zip(names, values, wanted, strict=True)]

    def keep(self, variant: Variant, *, cost: float, since: bytes | None = None) -> bool:
        """Store a variant in the first slot that is free; True where that is done.

        Not where no slot is, or a variant behind the same tokens is there. ``cost``: milliseconds of prefill it saves.
        since  the cache's mark before the variant was read: where anything was deleted since, it is not kept
        """
        ids, context = variant.states.ids, variant.context
        mark = self.cache.mark()
        if since not in (None, mark):
            return False
        with self._keeping:
            there = self.contexts([ids])[ids]
            free = next((slot for slot in range(self.count) if slot not in there), None)
            if free is None or any(_same(context, other) for other in there.values()):
                return False
            kept = self._put(variant, free, cost)
            return kept and not self.cache.take_back([self.cache.key(ids, f"c{free}"), self._entry(ids, free)], mark)

    def _put(self, variant: Variant, slot: int, cost: float) -> bool:
        cache, states = self.cache, variant.states
        name = f"c{slot}"
        key = cache.key(states.ids, name)
        try:
            value = encode(
                states, cache.scheme, cache.digest, name, secret=cache.secret, allow_int4=True, context=variant.context
            )
            if cache.store.contains(key):
                cache.discard([key])
            return cache.store.put(key, value, cost) and self._enter(states.ids, slot, variant.context, cost)
        except CacheUnavailable as error:
            cache.unavailable(error)
        except ValueError as error:  # inf or nan, or a context that is too long
            cache.unavailable(CacheUnavailable(str(error)))
        return False

    def _enter(self, ids: Ids, slot: int, context: Context, cost: float) -> bool:
        cache = self.cache
        entry = encode_entry(token_hash(ids), cache.digest, f"c{slot}", context, secret=cache.secret)
        return cache.store.put(self._entry(ids, slot), entry, cost)

    def _loaded(self, name: str, value: Value | None, ids: Ids, slot: int, context: Context) -> Variant | None:
        entry = self._entry(ids, slot)
        if value is None:
            self._miss([entry])
            return None
        try:
            stored = self.cache.expected(value, ids, f"c{slot}")
            variant = Variant(stored.read(), stored.context)
        except BadCache as error:
            self._miss([entry, name], error)
            return None
        if not _same(context, variant.context):  # filled anew since the entry was read, or by two at once
            self._miss([entry])
            try:
                self._enter(ids, slot, variant.context, float(len(ids)))
            except CacheUnavailable as error:
                self.cache.unavailable(error)
            return None
        self.cache.report.hits += 1
        return variant

    def _expected(self, value: Value, ids: Ids, slot: int) -> Context:
        """What a slot's entry says. Raises BadCache where it is no entry of it."""
        entry: Entry = parse_entry(value, secret=self.cache.secret)
        if (entry.fingerprint, entry.chunk, entry.variant) != (self.cache.digest, token_hash(ids), f"c{slot}"):
            raise BadCache("an entry of the index of variants is of another chunk or model than its name says")
        return entry.read()

    def _entry(self, ids: Ids, slot: int) -> str:
        return self.cache.key(ids, f"i{slot}")

    def _miss(self, names: Sequence[str], error: BadCache | None = None) -> None:
        self.cache.report.misses += 1
        if error is not None:
            self.cache.damaged(error)
        self.cache.discard(names)


def partner(name: str) -> tuple[str, str]:
    """("c", its entry's name) for the name of a variant, ("i", its variant's) for an entry's, ("", "") for another."""
    match = _SLOT.fullmatch(name)
    if match is None:
        return "", ""
    return match[2], f"{match[1]}{'i' if match[2] == 'c' else 'c'}{match[3]}"


def _same(one: Context, other: Context) -> bool:
    """True behind the same chunks and the same tokens."""
    return (one.before, one.front) == (other.before, other.front)
