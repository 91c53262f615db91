"""Stores one behind the other, the fastest first; what one cannot do is reported, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import ParamSpec, TypeVar

from rag.errors import CacheUnavailable
from rag.kv.memory import MemoryStore
from rag.kv.store import ChunkCacheStore, SharedStore, StoreStats, Tally, Value

P = ParamSpec("P")
T = TypeVar("T")
MEMORY = "memory"
"""The name of the tier in the process."""
Worth = Callable[[str, str], bool]
"""(tier, key) -> whether the value is to be fetched from there."""
Came = Callable[[str, int, float], None]
"""(tier, bytes, seconds)"""


class TieredStore:
    """A store over stores. A value found below is put into every tier above; a value put goes into all.

    get, get_many, put, contains, keys and stats never raise for a tier that does not answer: it is passed over, and
    ``stats`` and ``tiers_stats`` say so. delete tries every tier and raises CacheUnavailable when one of them did not
    answer: what must not be kept may still be there.

    Where a tier is shared with other processes, what they delete there leaves the memory of this one: every ``get``
    first compares the tier's generation with the one it saw last, and drops all of its memory where they differ. A
    deletion ends with a new one, and what was on its way meanwhile is not kept. So nothing comes out of a ``get`` whose
    deletion had ended before it began, except while the shared tier does not answer.

    looked  of every tier how many keys it was asked for, and how many it had; as Tally, for reading only
    """

    def __init__(self, tiers: Sequence[ChunkCacheStore]) -> None:
        if not tiers:
            raise ValueError("a store needs at least one tier")
        self.name, self.tiers = "+".join(tier.name for tier in tiers), tuple(tiers)
        self._tally = Tally()
        self._copies = [tier for tier in self.tiers if isinstance(tier, MemoryStore)]
        others = [tier for tier in self.tiers if not isinstance(tier, MemoryStore)]
        self._shared = [tier for tier in others if isinstance(tier, SharedStore)]
        self.looked: dict[str, tuple[int, int]] = {tier.name: (0, 0) for tier in tiers}
        self._turn = Lock()
        self._seen: list[bytes] | None = None
        self._outdates = 0

    def get(self, key: str) -> Value | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[Value | None]:
        return self.get_worthy(keys, lambda tier, key: True, lambda tier, nbytes, seconds: None)

    def get_worthy(self, keys: Sequence[str], worth: Worth, came: Came) -> list[Value | None]:
        """As ``get_many``, of each tier only what is ``worth`` it; ``came`` is told how long what came took.

        The tier in the process is never asked whether it is worth it.
        """
        seen = self._current()
        found: dict[str, Value] = {}
        for depth, tier in enumerate(self.tiers):
            missing = [key for key in dict.fromkeys(keys) if key not in found]
            if not missing:
                break
            if tier.name != MEMORY:
                missing = [key for key in missing if worth(tier.name, key)]
            nothing: list[Value | None] = [None] * len(missing)
            started = time.perf_counter()
            values = self._try(nothing, tier.get_many, missing) if missing else []
            self._look(tier.name, values)
            came(tier.name, sum(len(value) for value in values if value is not None), time.perf_counter() - started)
            for key, value in zip(missing, values, strict=True):
                if value is not None:
                    found[key] = value
                    self._copy(key, value, depth, seen)
        return [self._tally.found(found.get(key)) for key in keys]

    def _look(self, tier: str, values: Sequence[Value | None]) -> None:
        asked, found = self.looked[tier]
        self.looked[tier] = asked + len(values), found + sum(value is not None for value in values)

    def put(self, key: str, value: Value, cost: float = 1.0) -> bool:
        """True where at least one tier keeps it."""
        kept = [self._try(False, tier.put, key, value, cost) for tier in self.tiers]
        self._tally.puts += any(kept)
        self._tally.refused += not any(kept)
        return any(kept)

    def delete(self, keys: Sequence[str]) -> int:
        """The most that one tier held. Raises CacheUnavailable where a tier did not answer; the others are done."""
        counts, troubles = [0], list[str]()
        for tier in self.tiers:
            try:
                counts.append(tier.delete(keys))
            except CacheUnavailable as error:
                self._tally.failed(str(error))
                troubles.append(f"{tier.name}: {error}")
        if troubles := troubles or self._outdated():
            raise CacheUnavailable(f"not deleted everywhere ({'; '.join(troubles)}); delete again when it answers")
        return max(counts)

    def discard(self, keys: Sequence[str]) -> None:
        """Delete what is of no use, where that can be; copies that others have in memory may be as useless there."""
        for tier in self.tiers:
            self._try(0, tier.delete, keys)

    def outdate(self) -> None:
        """What other processes hold in memory may have been deleted. Raises CacheUnavailable where none can hear."""
        if troubles := self._outdated():
            raise CacheUnavailable(f"copies in other processes may be used yet ({'; '.join(troubles)}); delete again")

    def generation(self) -> bytes:
        """Another one after every deletion, by whomever; what a tier that does not answer would say is left out."""
        parts = [str(self._outdates).encode()]
        for tier in self._shared:
            try:
                parts.append(tier.generation())
            except CacheUnavailable:
                parts.append(b"?")
        return b":".join(parts)

    def _outdated(self) -> list[str]:
        """Why others may not have heard of it; empty where they have."""
        with self._turn:
            self._seen = None
            self._outdates += 1
        troubles = []
        for tier in self._shared:
            try:
                tier.outdate()
            except CacheUnavailable as error:
                self._tally.failed(str(error))
                troubles.append(str(error))
        return troubles

    def _current(self) -> list[bytes] | None:
        """The generation by which memory holds nothing that was deleted; None where nobody can tell."""
        if not (self._shared and self._copies):
            return []
        try:
            now = [tier.generation() for tier in self._shared]
        except CacheUnavailable:
            return None
        with self._turn:
            if self._seen != now:
                for copy in self._copies:
                    copy.clear()
                self._seen = now
        return now

    def _copy(self, key: str, value: Value, depth: int, seen: list[bytes] | None) -> None:
        """Put a value into the tiers above, into memory only while its generation is the one that was seen."""
        for above in self.tiers[:depth]:
            if not isinstance(above, MemoryStore):
                self._try(False, above.put, key, value)
                continue
            # In memory it is worth what the others' bytes are: what it cost stands nowhere below.
            with self._turn:
                if not self._shared or (seen is not None and self._seen == seen):
                    above.put(key, value, None)

    def put_missing(self, key: str, value: Value, cost: float = 1.0) -> bool:
        """As ``put`` for a value that may well be there: no tier is sent what it has. True where a tier had it."""
        there = [self._try(False, tier.contains, key) for tier in self.tiers]
        for tier, has in zip(self.tiers, there, strict=True):
            if not has:
                self._try(False, tier.put, key, value, cost)
        return any(there)

    def contains(self, key: str) -> bool:
        return any(self._try(False, tier.contains, key) for tier in self.tiers)

    def keys(self, prefix: str = "") -> Iterator[str]:
        names = [self._try(iter(()), tier.keys, prefix) for tier in self.tiers]
        return iter(dict.fromkeys(name for some in names for name in some))

    def stats(self) -> StoreStats:
        """Hits and misses of the whole; entries and bytes of the tier that holds most."""
        below = self.tiers_stats()
        largest = max(below, key=lambda one: (one.entries, one.nbytes))
        return self._tally.stats(self.name, largest.entries, largest.nbytes)

    def tiers_stats(self) -> list[StoreStats]:
        """One a tier; a tier that does not answer says only that."""
        below = []
        for tier in self.tiers:
            try:
                below.append(tier.stats())
            except CacheUnavailable as error:
                self._tally.failed(str(error))
                below.append(StoreStats(name=tier.name, errors=1, trouble=str(error)))
        return below

    @property
    def failures(self) -> tuple[int, str]:
        """How often a tier did not answer, and what it said last."""
        return self._tally.errors, self._tally.trouble

    def close(self) -> None:
        for tier in self.tiers:
            tier.close()

    def _try(self, otherwise: T, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        try:
            return work(*args, **named)
        except CacheUnavailable as error:
            self._tally.failed(str(error))
            return otherwise
