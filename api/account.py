"""What a request was about and what it cost: written by whoever worked on it, read when it has been answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from litestar.types import Scope

from rag.values import StageReport

_KEY = "kvasir_account"
CLIENT_LEFT = "client_left"
"""The error code of a request whose client went away first."""
LEFT_STATUS = 499
"""Its status in counts and logs; nothing is sent."""


@dataclass(slots=True)
class Account:
    """One request. Every field may stay empty.

    started  a time.perf_counter reading;  seconds  until the last byte was handed over, 0 before
    status   of the response, 0 where none began;  error  the code of what went wrong
    reports  of all stages in the order they ran, of every question of a request
    key      id of the API key, never the key itself;  query  the question, for a log that is told to hold it
    """

    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    method: str = ""
    route: str = ""
    request_id: str = ""
    status: int = 0
    error: str = ""
    collection: str = ""
    pipeline: str = ""
    key: str = ""
    query: str = ""
    traceparent: str = ""
    reports: list[StageReport] = field(default_factory=list)

    def ran(self, reports: Iterable[StageReport], collection: str = "", pipeline: str = "") -> None:
        """More stages have run."""
        self.collection, self.pipeline = collection or self.collection, pipeline or self.pipeline
        self.reports.extend(reports)

    @property
    def computed(self) -> int:
        """Tokens that models computed."""
        return sum(report.tokens for report in self.reports)

    @property
    def reused(self) -> int:
        """Tokens whose states came from the cache."""
        return sum(report.reused for report in self.reports)

    @property
    def decoded(self) -> int:
        """Tokens that were written."""
        return sum(report.decoded for report in self.reports)


def account_of(scope: Scope) -> Account:
    """The account of this request, the same however often it is asked for."""
    state: dict[str, Any] = scope["state"]
    known: Account | None = state.get(_KEY)
    if known is None:
        known = state[_KEY] = Account()
    return known


@dataclass(slots=True)
class Accounts:
    """Who reads accounts, and how many are open. For the event loop's thread alone."""

    readers: list[Callable[[Account], None]] = field(default_factory=list)
    begun: int = 0
    ended: int = 0

    @property
    def open(self) -> int:
        """Requests that are being answered."""
        return self.begun - self.ended

    def begin(self) -> None:
        self.begun += 1

    def end(self, account: Account) -> None:
        """The request has been answered, or will not be."""
        self.ended += 1
        account.seconds = time.perf_counter() - account.started
        for read in self.readers:
            read(account)


def server_timing(account: Account) -> str:
    """The header Server-Timing: milliseconds by stage, several runs of one together, and of all until now."""
    spent: dict[str, float] = {}
    for report in account.reports:
        spent[report.stage] = spent.get(report.stage, 0.0) + report.seconds
    stages = [f"{stage};dur={1e3 * seconds:.3f}, " for stage, seconds in spent.items()]
    return f"{''.join(stages)}total;dur={1e3 * (time.perf_counter() - account.started):.3f}"
