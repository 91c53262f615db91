"""The tier in the process: encoded values, bounded in bytes.

Values stay encoded: one bound counts what every tier counts, int8 keeps its half, and plain states are read from them
without a copy, checksums included, at several GB/s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock

from rag.kv.eviction import Worth
from rag.kv.store import StoreStats, Tally, Value


class MemoryStore:
    """Values in memory, at most ``capacity`` bytes of them; the least worthy leave first."""

    def __init__(self, capacity: int) -> None:
        self.name, self.capacity = "memory", capacity
        self._lock = Lock()
        self._values: dict[str, Value] = {}
        self._worth = Worth()
        self._tally = Tally()
        self._generation = 0

    def get(self, key: str) -> Value | None:
        with self._lock:
            value = self._tally.found(self._values.get(key))
            if value is not None:
                self._worth.use(key)
            return value

    def get_many(self, keys: Sequence[str]) -> list[Value | None]:
        return [self.get(key) for key in keys]

    def put(self, key: str, value: Value, cost: float | None = 1.0) -> bool:
        """As the protocol says; ``cost`` None where nobody knows it.

        The value itself is kept, not a copy: nobody may write to it any more.
        """
        size = len(value)
        with self._lock:
            if size > self.capacity:
                self._tally.refused += 1
                return False
            if key in self._values:
                return True
            while self._worth.nbytes + size > self.capacity:
                del self._values[self._worth.least()]
                self._tally.evicted += 1
            self._values[key] = value
            self._worth.add(key, size, cost)
            self._tally.puts += 1
            return True

    def delete(self, keys: Sequence[str]) -> int:
        with self._lock:
            there = [key for key in dict.fromkeys(keys) if self._values.pop(key, None) is not None]
            for key in there:
                self._worth.remove(key)
            return len(there)

    def generation(self) -> bytes:
        """Of this process alone."""
        return str(self._generation).encode()

    def outdate(self) -> None:
        with self._lock:
            self._generation += 1

    def contains(self, key: str) -> bool:
        return key in self._values

    def keys(self, prefix: str = "") -> Iterator[str]:
        with self._lock:
            names = list(self._values)
        return (name for name in names if name.startswith(prefix))

    def stats(self) -> StoreStats:
        with self._lock:
            return self._tally.stats(self.name, len(self._values), self._worth.nbytes)

    def close(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._values.clear()
            self._worth = Worth()
