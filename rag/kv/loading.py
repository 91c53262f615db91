"""Load what is stored, or have the model read it again: whichever is the faster here and now."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

WEIGHT = 0.3
"""Of the newest observation in a moving average."""
PROBE = 32
"""A tier that is too slow is asked for one chunk of so many all the same: it may have become faster."""
UNKNOWN = 0.05
"""Seconds a chunk may take to load while nobody knows how fast the model reads."""
TIERS = 16
"""Tiers that are told apart; more share one estimate."""


@dataclass(slots=True)
class Average:
    """Exponential moving average; None before the first observation."""

    value: float | None = None

    def add(self, observed: float) -> None:
        self.value = observed if self.value is None else WEIGHT * observed + (1 - WEIGHT) * self.value


@dataclass(slots=True)
class _Tier:
    """Seconds a byte takes to come, and how many chunks were read instead of loaded since the last that was."""

    per_byte: Average = field(default_factory=Average)
    declined: int = 0


class LoadCosts:
    """What loading and reading have cost of late, for one model and one way of storing. Threads may share it.

    A chunk of n tokens is loaded where n * bytes a token * (seconds a byte from its tier + seconds a byte to check and
    decode) is at most n * seconds a token of prefill. What a mode computes again of the chunk is paid either way.
    What is not known yet is loaded, but for one chunk that takes longer than UNKNOWN: it tells how fast the model is.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._tiers: dict[str, _Tier] = {}
        self._decoding, self._width, self._reading = Average(), Average(), Average()
        self._asked = False

    # --- observing ---

    def loaded(self, tier: str, nbytes: int, seconds: float) -> None:
        """Bytes that came from a tier."""
        if nbytes:
            with self._lock:
                self._tier(tier).per_byte.add(seconds / nbytes)

    def decoded(self, nbytes: int, tokens: int, seconds: float) -> None:
        """Bytes that became states of so many tokens."""
        if nbytes and tokens:
            with self._lock:
                self._decoding.add(seconds / nbytes)
                self._width.add(nbytes / tokens)

    def read(self, tokens: int, seconds: float) -> None:
        """Tokens that the model read to have their states."""
        if tokens:
            with self._lock:
                self._reading.add(seconds / tokens)

    # --- deciding ---

    def worth(self, tier: str, tokens: int) -> bool:
        """True where a chunk of so many tokens is to be loaded from the tier. Counts as a decision: see PROBE."""
        with self._lock:
            known = self._tier(tier)
            load, read = self._load(known), self._reading.value
            if load is None:
                return True
            if read is None:
                asks = tokens * load > UNKNOWN and not self._asked
                self._asked = self._asked or asks
                return not asks
            if load <= read:
                known.declined = 0
                return True
            known.declined += 1
            if known.declined >= PROBE:
                known.declined = 0
                return True
            return False

    def seconds(self, tier: str, tokens: int) -> tuple[float | None, float | None]:
        """What loading so many tokens from the tier takes, and what reading them does; None where it is not known."""
        with self._lock:
            load = self._load(self._tier(tier))
            read = self._reading.value
        return (None if load is None else load * tokens, None if read is None else read * tokens)

    @property
    def break_even(self) -> float | None:
        """Bytes a second, checked and decoded, below which reading is the faster; None where it is not known."""
        with self._lock:
            width, read = self._width.value, self._reading.value
        return width / read if width and read else None

    def _load(self, tier: _Tier) -> float | None:
        """Seconds a token."""
        if tier.per_byte.value is None or self._width.value is None:
            return None
        return self._width.value * (tier.per_byte.value + (self._decoding.value or 0.0))

    def _tier(self, name: str) -> _Tier:
        if name not in self._tiers and len(self._tiers) >= TIERS:
            name = next(iter(self._tiers))
        return self._tiers.setdefault(name, _Tier())
