"""States by tokens: names, checks and encoding in front of any store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rag.errors import BadCache, CacheUnavailable
from rag.kv.flight import SingleFlight
from rag.kv.key import Fingerprint, chunk_key
from rag.kv.layout import StoredChunk, encode, parse
from rag.kv.loading import LoadCosts
from rag.kv.quantize import Scheme
from rag.kv.states import ChunkStates
from rag.kv.store import ChunkCacheStore, SharedStore, Value
from rag.kv.tiered import TieredStore


@dataclass(slots=True)
class CacheReport:
    """Counted since the cache was made. A difference of two says whether a question met trouble.

    damaged      values that were there and were no chunk, or another one: deleted, and a miss
    unavailable  times the store did not answer, or would not keep: a miss, or nothing kept
    trouble      the last reason of either
    """

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    unavailable: int = 0
    trouble: str = ""


class ChunkCache:
    """Chunk states of one model, one way of storing and one tenant, in a store that others may share.

    get and put never raise for the store: what does not answer is a miss, and ``report`` says why. A value counts only
    if its checksums, its fingerprint and its token ids are the ones that were asked for, and with a secret its seal.
    Tensors that come back may be views of what the store holds: do not write to them.
    """

    def __init__(
        self,
        store: ChunkCacheStore,
        fingerprint: Fingerprint,
        scheme: Scheme = "bf16",
        *,
        secret: bytes = b"",
        allow_int4: bool = False,
    ) -> None:
        if scheme == "int4" and not allow_int4:
            raise ValueError("int4 is not allowed for this model before it has been measured; store int8")
        self.store, self.scheme = store, scheme
        self.fingerprint = fingerprint.stored_as(f"{fingerprint.scheme}/{scheme}")
        self.report = CacheReport()
        self.digest = self.fingerprint.digest
        self.secret = secret
        self._flights: SingleFlight[ChunkStates] = SingleFlight()

    def key(self, ids: Sequence[int], variant: str = "0") -> str:
        return chunk_key(ids, self.digest, variant)

    def get(self, ids: Sequence[int], variant: str = "0") -> ChunkStates | None:
        """The chunk's states on the CPU, None where they are not there or not sound."""
        return self.get_many([ids], variant)[0]

    def get_many(self, chunks: Sequence[Sequence[int]], variant: str = "0") -> list[ChunkStates | None]:
        """One answer a chunk, in order."""
        keys = [self.key(ids, variant) for ids in chunks]
        return [self._read(*one, variant) for one in zip(keys, chunks, self.values(keys), strict=True)]

    def values(self, keys: Sequence[str]) -> list[Value | None]:
        """What the store has under these names, not looked into; nothing where it does not answer."""
        try:
            return self.store.get_many(keys)
        except CacheUnavailable as error:
            self.unavailable(error)
            return [None] * len(keys)

    def get_worthy(
        self, chunks: Sequence[Sequence[int]], costs: LoadCosts
    ) -> tuple[list[ChunkStates | None], dict[int, str]]:
        """As ``get_many``, but what the model reads faster than it loads is left; and the tier of what was, by place.

        Whether that tier has it is not asked. Tells ``costs`` what loading took.
        """
        keys = [self.key(ids) for ids in chunks]
        tokens = {key: len(ids) for key, ids in zip(keys, chunks, strict=True)}
        declined: dict[str, str] = {}

        def worth(tier: str, key: str) -> bool:
            if key in declined or not costs.worth(tier, tokens[key]):
                declined.setdefault(key, tier)
                return False
            return True

        store = self.store if isinstance(self.store, TieredStore) else TieredStore([self.store])
        failures = store.failures[0]
        values = store.get_worthy(keys, worth, costs.loaded)
        if store is not self.store and store.failures[0] > failures:
            self.unavailable(CacheUnavailable(store.failures[1]))
        started, found = time.perf_counter(), []
        for key, ids, value in zip(keys, chunks, values, strict=True):
            found.append(self._read(key, ids, value, "0"))
        nbytes = sum(len(value) for value in values if value is not None)
        costs.decoded(
            nbytes,
            sum(len(ids) for ids, value in zip(chunks, values, strict=True) if value is not None),
            time.perf_counter() - started,
        )
        left = {at: declined[key] for at, key in enumerate(keys) if found[at] is None and key in declined}
        return found, left

    def put(self, states: ChunkStates, variant: str = "0", *, cost: float | None = None) -> bool:
        """True where the store keeps them. ``cost``: milliseconds of prefill they save, one a token where not known.

        Raises ValueError for states that cannot be stored: shapes that do not fit, inf or nan.
        """
        value = self._encoded(states, variant)
        try:
            return self.store.put(self.key(states.ids, variant), value, cost or float(len(states.ids)))
        except CacheUnavailable as error:
            self.unavailable(error)
            return False

    def keep(self, states: ChunkStates, variant: str = "0", *, cost: float | None = None) -> ChunkStates:
        """As ``put``; the states as they will come back, so that an answer does not depend on what is kept already.

        What cannot be stored is counted as unavailable and comes back as it is.
        """
        try:
            value = self._encoded(states, variant)
        except ValueError as error:
            self.report.unavailable += 1
            self.report.trouble = str(error)
            return states
        try:
            self.store.put(self.key(states.ids, variant), value, cost or float(len(states.ids)))
        except CacheUnavailable as error:
            self.unavailable(error)
        return parse(value, secret=self.secret).read()

    def keep_missing(self, states: ChunkStates, *, cost: float | None = None) -> tuple[ChunkStates, bool]:
        """As ``keep`` of what may be stored already, and whether it was: no tier is sent what it has."""
        try:
            value = self._encoded(states, "0")
        except ValueError:
            return self.keep(states, cost=cost), False
        store = self.store if isinstance(self.store, TieredStore) else TieredStore([self.store])
        there = store.put_missing(self.key(states.ids), value, cost or float(len(states.ids)))
        return parse(value, secret=self.secret).read(), there

    def restored(self, states: ChunkStates) -> ChunkStates:
        """The states as they would come back if they were stored; what cannot be stored as it is."""
        try:
            return parse(self._encoded(states, "0"), secret=self.secret).read()
        except ValueError:
            return states

    def mark(self) -> bytes:
        """Another one as soon as anything is deleted from the store, by this process or another."""
        try:
            return self.store.generation() if isinstance(self.store, SharedStore) else b""
        except CacheUnavailable:
            return b"?"

    def take_back(self, names: Sequence[str], mark: bytes) -> bool:
        """Delete what was put under these names where something was deleted since the mark: it may be among them.

        Looked at before the first put as well, few are put in vain. True where they were deleted.
        """
        if self.mark() == mark:
            return False
        try:
            self.store.delete(names)
        except CacheUnavailable as error:
            self.unavailable(error)
        return True

    @property
    def troubles(self) -> tuple[int, str]:
        """How often a store, or a tier of it, did not answer or gave something damaged, and the last reason."""
        count, why = self.report.damaged + self.report.unavailable, self.report.trouble
        if isinstance(self.store, TieredStore):
            failed, said = self.store.failures
            return count + failed, said or why
        return count, why

    def get_or_make(
        self, ids: Sequence[int], make: Callable[[], ChunkStates], variant: str = "0", *, cost: float | None = None
    ) -> ChunkStates:
        """The stored states, or those that ``make`` gives, which are then stored; threads that ask at once make once.

        What is made comes back as it was made, what is stored as the scheme keeps it.
        """

        def found_or_made() -> ChunkStates:
            found = self.get(ids, variant)
            if found is not None:
                return found
            made = make()
            self.put(made, variant, cost=cost)
            return made

        return self._flights.do(self.key(ids, variant), found_or_made)

    def contains(self, ids: Sequence[int], variant: str = "0") -> bool:
        """True where the store has a value of that name; it is not looked into."""
        try:
            return self.store.contains(self.key(ids, variant))
        except CacheUnavailable as error:
            self.unavailable(error)
            return False

    def delete(self, chunks: Iterable[Sequence[int]], variant: str = "0") -> int:
        """How many were there, of this model and tenant. Raises CacheUnavailable: they may still be there then."""
        return self.store.delete([self.key(ids, variant) for ids in chunks])

    def _encoded(self, states: ChunkStates, variant: str) -> Value:
        return encode(states, self.scheme, self.digest, variant, secret=self.secret, allow_int4=True)

    def _read(self, key: str, ids: Sequence[int], value: Value | None, variant: str) -> ChunkStates | None:
        if value is None:
            self.report.misses += 1
            return None
        try:
            states = self.expected(value, ids, variant).read()
        except BadCache as error:
            self.report.misses += 1
            self.damaged(error)
            self.discard([key])
            return None
        self.report.hits += 1
        return states

    def expected(self, value: Value, ids: Sequence[int], variant: str) -> StoredChunk:
        """The chunk itself. Raises BadCache where it is not the one that was asked for."""
        stored = parse(value, secret=self.secret)
        described = stored.description
        if (described.fingerprint, described.variant, described.scheme) != (self.digest, variant, self.scheme):
            raise BadCache("a stored chunk was read by another model, or in another way, than its name says")
        if stored.ids != tuple(ids):
            raise BadCache("a stored chunk holds other tokens than its name says")
        return stored

    def discard(self, names: Sequence[str]) -> None:
        """Delete what is of no use, where that can be."""
        try:
            if isinstance(self.store, TieredStore):
                self.store.discard(names)
            else:
                self.store.delete(names)
        except CacheUnavailable as error:
            self.unavailable(error)

    def damaged(self, error: BadCache) -> None:
        """Count a value that is not what its name says."""
        self.report.damaged += 1
        self.report.trouble = str(error)

    def unavailable(self, error: CacheUnavailable) -> None:
        """Count a store that did not answer."""
        self.report.unavailable += 1
        self.report.trouble = str(error)
