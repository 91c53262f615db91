"""How much a key may ask for: so many requests in a time, so many at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rag.keys import Key, Rate, parse_rate

Clock = Callable[[], float]


@dataclass(slots=True)
class Bucket:
    """A token bucket: it holds ``rate.count`` at most and fills up evenly in ``rate.seconds``."""

    rate: Rate
    clock: Clock = time.monotonic
    tokens: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens, self.at = float(self.rate.count), self.clock()

    def take(self) -> bool:
        """True where a token was there."""
        self._fill()
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def wait(self) -> int:
        """Whole seconds until a token is there, at least 1."""
        self._fill()
        missing = 1 - self.tokens
        return max(1, math.ceil(missing * self.rate.seconds / self.rate.count - 1e-9))

    def headers(self) -> dict[str, str]:
        """The limit, what is left of it now, and the seconds until it is whole again."""
        self._fill()
        whole = (self.rate.count - self.tokens) * self.rate.seconds / self.rate.count
        return {
            "RateLimit-Limit": str(self.rate.count),
            "RateLimit-Remaining": str(int(self.tokens)),
            "RateLimit-Reset": str(math.ceil(whole - 1e-9)),
            "RateLimit-Policy": f"{self.rate.count};w={self.rate.seconds}",
        }

    def _fill(self) -> None:
        now = self.clock()
        gained = max(0.0, now - self.at) * self.rate.count / self.rate.seconds
        self.tokens, self.at = min(float(self.rate.count), self.tokens + gained), now


class Limits:
    """The use that each key makes of this process."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._busy: dict[str, int] = {}

    def bucket(self, key: Key) -> Bucket | None:
        """The key's bucket, None where it has no rate."""
        rate = parse_rate(key.rate)
        if rate is None:
            return None
        found = self._buckets.get(key.id)
        if found is None or found.rate != rate:
            found = self._buckets[key.id] = Bucket(rate, self._clock)
        return found

    def enter(self, key: Key) -> bool:
        """Count a request of the key; False where as many are under way as it may have."""
        busy = self._busy.get(key.id, 0)
        if key.concurrency and busy >= key.concurrency:
            return False
        self._busy[key.id] = busy + 1
        return True

    def leave(self, key: Key) -> None:
        self._busy[key.id] -= 1
        if not self._busy[key.id]:
            del self._busy[key.id]

    def keep(self, ids: set[str]) -> None:
        """Forget the buckets of all other keys."""
        for gone in self._buckets.keys() - ids:
            del self._buckets[gone]
