"""What every store of encoded chunks promises; a value is one run of bytes that rag.kv.layout wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Value = bytes | bytearray | memoryview
"""An encoded chunk as stores take and give it. What a store gave is not to be written to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """Counted since the store was opened; ``entries`` and ``nbytes`` are what is there now.

    refused  values larger than the store's bound;  evicted  entries that made room, 0 where the server evicts
    errors   times the store did not answer;  trouble  what it said last, empty where all was well
    """

    name: str
    entries: int = 0
    nbytes: int = 0
    hits: int = 0
    misses: int = 0
    puts: int = 0
    refused: int = 0
    evicted: int = 0
    errors: int = 0
    trouble: str = ""


@runtime_checkable
class ChunkCacheStore(Protocol):
    """Encoded chunks by name. All methods may be called from several threads at once.

    A value comes back as it was put, or not at all: never a part of it. Stores may drop entries whenever they like.
    A store that does not answer raises CacheUnavailable and nothing else; ``TieredStore`` and ``ChunkCache`` turn
    that into a miss that is reported.
    """

    name: str

    def get(self, key: str) -> Value | None:
        """The value, None where there is none."""
        ...

    def get_many(self, keys: Sequence[str]) -> list[Value | None]:
        """One answer a key, in order; a key may come twice."""
        ...

    def put(self, key: str, value: Value, cost: float = 1.0) -> bool:
        """True where the value is kept: a name says what its value is, so one that is there already is left alone.

        cost  milliseconds of prefill that a hit saves; what costs more and is asked for more often stays longer
        False where the value is larger than the store may ever hold; nothing is dropped for it.
        """
        ...

    def delete(self, keys: Sequence[str]) -> int:
        """How many were there. Afterwards none is, under all that belongs to them."""
        ...

    def contains(self, key: str) -> bool:
        """True where get would find a value now; no hit is counted."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The names that begin so, in no order, each once; what comes and goes meanwhile may be missed."""
        ...

    def stats(self) -> StoreStats:
        """Counters and sizes; looks at every entry in some stores."""
        ...

    def close(self) -> None:
        """Lets go of files and connections; may be called twice."""
        ...


@runtime_checkable
class SharedStore(Protocol):
    """A store that several have, processes or threads: one of them can tell the others what is no longer to be used."""

    def generation(self) -> bytes:
        """A mark that is another after every ``outdate``; empty before the first, or where the store has lost it."""
        ...

    def outdate(self) -> None:
        """Whatever was copied from here before may have been deleted. Raises CacheUnavailable."""
        ...


class Tally:
    """Counters of one store. Increments are not atomic across threads; they are for reading, not for deciding."""

    __slots__ = ("errors", "evicted", "hits", "misses", "puts", "refused", "trouble")

    def __init__(self) -> None:
        self.hits = self.misses = self.puts = self.refused = self.evicted = self.errors = 0
        self.trouble = ""

    def found(self, value: Value | None) -> Value | None:
        """The value, counted."""
        if value is None:
            self.misses += 1
        else:
            self.hits += 1
        return value

    def failed(self, reason: str) -> None:
        self.errors += 1
        self.trouble = reason

    def stats(self, name: str, entries: int, nbytes: int) -> StoreStats:
        counted = {counter: getattr(self, counter) for counter in self.__slots__}
        return StoreStats(name=name, entries=entries, nbytes=nbytes, **counted)
