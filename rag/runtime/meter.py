"""What a request may cost and what it has cost: limits that stop the work, counts that go into its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from rag.errors import KvasirError


class OutOfBudget(KvasirError):
    """The request's time or tokens are used up: the best result so far is the result."""


class Cancelled(KvasirError):
    """Nobody waits for the result any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request; 0 is none. ``max_prefill_tokens`` counts tokens the model computes, not cached ones."""

    deadline_ms: float = 0.0
    max_prefill_tokens: int = 0

    def within(self, deadline_ms: float) -> Limits:
        """These, with a deadline that is no later; 0 sets none."""
        nearest = min(filter(None, (self.deadline_ms, deadline_ms)), default=0.0)
        return self if nearest == self.deadline_ms else replace(self, deadline_ms=nearest)


cancelled: ContextVar[Callable[[], bool] | None] = ContextVar("cancelled", default=None)
"""Says whether the request this thread works for has been given up by its caller."""

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""When the request this thread works for has to be answered, a time.perf_counter reading; None for whenever."""


def seconds_left() -> float | None:
    """Until the deadline of the request this thread works for, at least 0; None for any time."""
    until = deadline.get()
    return None if until is None else max(0.0, until - time.perf_counter())


@dataclass(slots=True)
class Reuse:
    """What of a request's prompts was put together from cached chunk states.

    mode    how, "" where there was no cache to ask; link-16+int8 where storage had rounded what was reused
    tokens  of all prompts that were put together
    reused  tokens whose states were there;  again  tokens that were computed while putting together, in place or to
            repair them; a layer counts for its share. What was read anew, to be kept, is in neither
    trouble  the last thing that a store did wrong
    slower   tier -> stored tokens that were read again, as that took less than loading them
    note     what is to be known about the mode, for example that it was not measured on this model
    """

    mode: str = ""
    tokens: int = 0
    reused: int = 0
    again: float = 0.0
    trouble: str = ""
    note: str = ""
    slower: dict[str, int] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the request's report should know."""
        slower = ", ".join(f"{tokens} tokens from {tier}" for tier, tokens in self.slower.items())
        read = f"reading was faster than loading: {slower}" if slower else ""
        trouble = f"the cache of chunk states had trouble ({self.trouble}); what was missing was computed"
        return tuple(filter(None, (self.note, read, trouble if self.trouble else "")))

    @property
    def recomputed(self) -> float:
        """``again`` as a share of ``tokens``."""
        return self.again / self.tokens if self.tokens else 0.0


@dataclass(slots=True)
class Meter:
    """Counts of one request.

    passes   forward passes it took part in;  prefill, decoded  tokens computed for it
    peak_bytes  the most key/value states held at once for a pass it took part in
    """

    limits: Limits = Limits()
    started: float = field(default_factory=time.perf_counter)
    passes: int = 0
    prefill: int = 0
    decoded: int = 0
    peak_bytes: int = 0
    reuse: Reuse = field(default_factory=Reuse)
    gone: Callable[[], bool] | None = field(default_factory=cancelled.get)
    until: float | None = field(default_factory=deadline.get)

    def allow(self, tokens: int = 0) -> None:
        """Called before every forward pass of ``tokens``. Raises OutOfBudget, Cancelled."""
        if self.gone is not None and self.gone():
            raise Cancelled("the request was given up by its caller")
        now = time.perf_counter()
        if self.until is not None and now >= self.until:
            raise OutOfBudget("the request's deadline is past")
        spent = (now - self.started) * 1e3
        if self.limits.deadline_ms and spent >= self.limits.deadline_ms:
            raise OutOfBudget(f"deadline_ms = {self.limits.deadline_ms:g} is used up")
        if self.limits.max_prefill_tokens and self.prefill + tokens > self.limits.max_prefill_tokens:
            raise OutOfBudget(f"max_prefill_tokens = {self.limits.max_prefill_tokens} is used up")

    def count(self, tokens: int, *, passes: int = 1, held: int = 0) -> None:
        self.passes += passes
        self.prefill += tokens
        self.peak_bytes = max(self.peak_bytes, held)
