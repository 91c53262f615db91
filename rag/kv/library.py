"""Chunk states by their token ids: from the store where they are there, else read by the model and stored."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from rag.errors import InvalidConfig
from rag.kv.cache import ChunkCache
from rag.kv.capture import read_chunks
from rag.kv.flight import SingleFlight
from rag.kv.identity import fingerprint_of
from rag.kv.key import Fingerprint, token_hash
from rag.kv.layout import rounds
from rag.kv.loading import LoadCosts
from rag.kv.quantize import Scheme
from rag.kv.slots import VariantSlots
from rag.kv.states import ChunkStates
from rag.kv.store import ChunkCacheStore
from rag.runtime.meter import Meter
from rag.runtime.reader import Reader

if TYPE_CHECKING:
    from rag.language_model import LanguageModel

Ids = tuple[int, ...]
log = logging.getLogger(__name__)
BEGINNINGS = 4096
"""Tokens of prompts' beginnings whose states are kept in memory; the least recently used go first."""


@dataclass(frozen=True, slots=True)
class Found:
    """States of chunks, and which of them had to be read. They are as the store keeps them, read or not."""

    states: dict[Ids, ChunkStates]
    read: frozenset[Ids] = frozenset()


class ChunkLibrary:
    """What one model read of chunks, each by itself behind the same few tokens, whatever prompt it is for.

    lead    gives the ids of these tokens; asked when the model is first used
    store   where states are kept; None keeps none
    tenant  a secret salt of the names;  secret  seals the values
    costs   what loading and reading take: what is read faster than it loads is read; None loads all that is stored
    variants  how many of a chunk are kept at most, each with what it was read behind (mode craft); 0 for none
    narrow  says whether states may be stored in 4 bits: asked of the library when the store is first used
    Threads may share it; what several ask for at once is read once. A store that fails is a store without the chunk.
    """

    def __init__(
        self,
        model: LanguageModel,
        lead: Callable[[Reader], Sequence[int]],
        store: ChunkCacheStore | None,
        scheme: Scheme = "bf16",
        *,
        tenant: str = "",
        secret: bytes = b"",
        variants: int = 0,
        narrow: Callable[[ChunkLibrary], bool] = lambda _: False,
        costs: LoadCosts | None = None,
    ) -> None:
        self.model, self.store, self.scheme, self.costs = model, store, scheme, costs
        self.variants = variants
        self._lead, self._tenant, self._secret, self._narrow = lead, tenant, secret, narrow
        self._fingerprint: Fingerprint | None = None
        self._lead_ids: Ids | None = None
        self._cost = 1.0
        self._lock = Lock()
        self._cache: ChunkCache | None = None
        self._slots: VariantSlots | None = None
        self._beginnings: OrderedDict[Ids, ChunkStates] = OrderedDict()
        self._chunks: SingleFlight[tuple[ChunkStates, bool]] = SingleFlight()
        self._starts: SingleFlight[ChunkStates] = SingleFlight()

    @property
    def lead(self) -> Ids:
        """The tokens that stand before every chunk when it is read."""
        if self._lead_ids is None:
            self._lead_ids = tuple(self._lead(self.model))
        return self._lead_ids

    @property
    def cache(self) -> ChunkCache | None:
        """States by ids; None where nothing is kept. Loads the model."""
        if self.store is None:
            return None
        fingerprint = self.fingerprint
        if self._cache is None and self.scheme == "int4" and not self._narrow(self):
            raise InvalidConfig(
                'cache.scheme = "int4" is not allowed before this model has passed with it; measure it with: kvasir '
                "models calibrate MODEL --collection NAME, or take int8"
            )
        with self._lock:
            if self._cache is None:
                chosen = replace(fingerprint, tenant=self._tenant)
                self._cache = ChunkCache(self.store, chosen, self.scheme, secret=self._secret, allow_int4=True)
            return self._cache

    @property
    def slots(self) -> VariantSlots | None:
        """Where variants are kept; None where none are. Loads the model."""
        cache = self.cache
        if cache is None or not self.variants:
            return None
        with self._lock:
            self._slots = self._slots or VariantSlots(cache, self.variants)
            return self._slots

    @property
    def cost(self) -> float:
        """Milliseconds that a token of prefill took last."""
        return self._cost

    @property
    def fingerprint(self) -> Fingerprint:
        """Everything about the model that decides what it reads of chunks, without the tenant. Loads the model."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.model, self.lead)
        return self._fingerprint

    @property
    def identity(self) -> str:
        """The fingerprint in 16 hex digits: verdicts are of it."""
        return self.fingerprint.digest

    @property
    def rounds(self) -> bool:
        """True where the scheme does not hold all that the model computes."""
        return self.store is not None and rounds(self.scheme, str(self.model.model.dtype).removeprefix("torch."))

    def beginning(self, ids: Ids, meter: Meter) -> tuple[ChunkStates, bool]:
        """The states of a prompt's first tokens, on the model's device; True where they were at hand."""
        with self._lock:
            if ids in self._beginnings:
                self._beginnings.move_to_end(ids)
                return self._beginnings[ids], True

        def read(_: list[str]) -> list[ChunkStates]:
            return read_chunks(self.model, [ids], meter, on="model")

        (states,) = self._starts.do_many([token_hash(ids)], read, meter.allow).values()
        with self._lock:
            self._beginnings[ids] = states
            while sum(map(len, self._beginnings)) > BEGINNINGS and len(self._beginnings) > 1:
                self._beginnings.popitem(last=False)
        return states, False

    def find(self, chunks: Sequence[Ids], meter: Meter) -> Found:
        """The states of all of them, each once, in the CPU's memory; chunks without tokens are left out.

        Says on the meter what the store did wrong. Raises what ``read_chunks`` does.
        """
        named = {token_hash(ids): ids for ids in chunks if ids}
        if not named:
            return Found({})
        cache = self.cache
        with self.noticing(meter):
            there = self._chunks.do_many(
                list(named), lambda keys: self._loaded(cache, [named[key] for key in keys], meter), meter.allow
            )
        return Found(
            {named[key]: states for key, (states, _) in there.items()},
            frozenset(named[key] for key, (_, read) in there.items() if read),
        )

    @contextmanager
    def noticing(self, meter: Meter) -> Iterator[None]:
        """What the store does wrong meanwhile is logged, and said on the meter."""
        cache = self.cache
        before = cache.troubles[0] if cache else 0
        yield
        if cache and cache.troubles[0] > before:
            log.warning("chunk cache: %s", cache.troubles[1])
            meter.reuse.trouble = cache.troubles[1].partition(" (")[0]  # places in brackets are no client's to know

    def _loaded(self, cache: ChunkCache | None, chunks: list[Ids], meter: Meter) -> list[tuple[ChunkStates, bool]]:
        """States, and whether they were read; what was read is not kept where something was deleted meanwhile."""
        mark = cache.mark() if cache else b""
        if cache is None:
            found, left = list[ChunkStates | None]([None] * len(chunks)), dict[int, str]()
        elif self.costs is None:
            found, left = cache.get_many(chunks), {}
        else:
            found, left = cache.get_worthy(chunks, self.costs)
        missing = [at for at, states in enumerate(found) if states is None]
        made = self._read([chunks[at] for at in missing], meter)
        current = cache is None or not made or cache.mark() == mark
        for at, states in zip(missing, made, strict=True):
            kept = (
                cache.restored(states) if cache and not current else self._kept(cache, states, left.get(at, ""), meter)
            )
            found[at] = kept
        if cache and made and current:
            cache.take_back([cache.key(chunks[at]) for at in missing], mark)
        read = set(missing)
        return [(states, at in read) for at, states in enumerate(found) if states is not None]

    def _read(self, chunks: Sequence[Ids], meter: Meter) -> list[ChunkStates]:
        """The states of each as the model computes them."""
        if not chunks:
            return []
        prefix = self.beginning(self.lead, meter)[0]
        started = time.perf_counter()
        made = read_chunks(self.model, chunks, meter, prefix=prefix)
        tokens, seconds = sum(map(len, chunks)), time.perf_counter() - started
        self._cost = 1e3 * seconds / tokens
        if self.costs is not None:
            self.costs.read(tokens, seconds)
        return made

    def _kept(self, cache: ChunkCache | None, states: ChunkStates, left: str, meter: Meter) -> ChunkStates:
        """What was read, as it comes back from the store; ``left`` is the tier that would have been slower, if any."""
        if cache is None:
            return states
        cost = self._cost * len(states.ids)
        if not left:
            return cache.keep(states, cost=cost)
        kept, there = cache.keep_missing(states, cost=cost)
        if there:
            meter.reuse.slower[left] = meter.reuse.slower.get(left, 0) + len(states.ids)
        return kept
