"""What the handlers share, and the way every request takes: body, worker thread, JSON bytes."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar import Request
from litestar.response.base import ASGIResponse
from litestar.types import Scope

from api.account import Account, Accounts, account_of
from api.guard import Guard
from api.request_id import request_id
from api.warmup import Warmup
from api.workers import SPARES, Workers
from rag.assemble import Engine
from rag.errors import Overloaded
from rag.jobs.runner import Runner
from rag.keys import Key
from rag.views import Views

log = logging.getLogger(__name__)

JSON = "application/json"
Connection = Request[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the worker threads see it."""

    engine: Engine
    body: bytes
    request_id: str
    account: Account = field(default_factory=Account)


@dataclass(slots=True)
class Service:
    """One process's engine and threads.

    workers  answer questions
    writers  build and change collections, one at a time: however many documents come, questions are not held up
    scraper  reads what /metrics shows, also while all others are busy
    accounts of the requests, for whoever counts or logs them
    job_counts  jobs by state, for whoever knows them to put here
    jobs     documents that are taken in beside
    draining  the server is about to end: it takes no new connections soon, says so on /ready, and streams without an
             end of their own end
    guard    who gets in;  a key's requests see the service of ``seen_by``, the same with what is theirs as engine
    key      of the request that sees this service, None where none is asked for
    """

    engine: Engine
    workers: Workers = field(init=False)
    writers: Workers = field(init=False)
    scraper: Workers = field(init=False)
    accounts: Accounts = field(init=False, default_factory=Accounts)
    warmup: Warmup = field(init=False)
    job_counts: Callable[[], Mapping[str, float]] = field(init=False, default=dict)
    jobs: Runner = field(init=False)
    draining: bool = field(init=False, default=False)
    guard: Guard = field(init=False)
    key: Key | None = field(init=False, default=None)
    views: Views = field(init=False)
    _uploads: threading.BoundedSemaphore = field(init=False)
    _watching: asyncio.Task[None] | None = field(init=False, default=None)
    _warming: asyncio.Task[None] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        server = self.engine.settings.server
        self.workers = Workers(
            server.threads,
            server.queue,
            seconds=server.deadline_ms / 1e3,
            max_wait=server.max_wait_ms / 1e3,
            spares=SPARES,
        )
        self.writers = Workers(1, server.queue, name="writer")
        self.scraper = Workers(1, 8, name="scraper")
        self.warmup = Warmup(self.engine)
        self.guard = Guard(self.engine.settings)
        self.views = Views(self.engine)
        self.jobs = Runner(self.engine, self.views, lambda: self.warmup.finished)
        self.job_counts = lambda: {state: float(count) for state, count in self.jobs.counts().items()}
        self._uploads = threading.BoundedSemaphore(self.engine.settings.jobs.queued)

    def seen_by(self, key: Key) -> Service:
        """This service with nothing but what the key may see."""
        view = copy(self)
        view.engine, view.key = self.views.of(key.tenant, key.collections), key
        return view

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """An upload is coming in. Raises Overloaded where too many are already."""
        if not self._uploads.acquire(blocking=False):
            raise Overloaded("too many uploads come in already; try again when some are done", retry_after=5)
        try:
            yield
        finally:
            self._uploads.release()

    async def start(self) -> None:
        self.workers.start()
        self.writers.start()
        self.scraper.start()
        self.jobs.start()
        self._warming = asyncio.create_task(self.writers.run(self.warmup.run))
        self._warming.add_done_callback(_report)
        self._watching = asyncio.create_task(self.guard.watch())

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self.draining = True
        await asyncio.to_thread(self.jobs.close)
        await self.writers.close()
        await self.workers.close()
        await self.scraper.close()
        self.views.close()
        self.engine.caching.close()


def _report(warming: asyncio.Task[None]) -> None:
    if not warming.cancelled() and (error := warming.exception()) is not None:
        log.error("warm-up failed", exc_info=error)


_SEEN = "kvasir_service"


def see_as(scope: Scope, service: Service) -> None:
    """Have the request see this service in place of the whole one."""
    scope["state"][_SEEN] = service


def service_of(request: Connection) -> Service:
    """The service as the request may see it: its engine holds no other tenant's collections."""
    return service_in(request.scope, request.app.state.service)


def service_in(scope: Scope, whole: Service) -> Service:
    """The same for those who have no Request: mounted applications."""
    seen: Service = scope["state"].get(_SEEN, whole)
    return seen


def call_of(request: Connection, body: bytes) -> Call:
    """The request for a worker thread."""
    return Call(service_of(request).engine, body, request_id(request.scope), account_of(request.scope))


async def reading(request: Connection, work: Callable[[Call], msgspec.Struct]) -> ASGIResponse:
    """``work`` on a worker thread, its result as JSON."""
    return await _respond(request, service_of(request).workers, work, 200)


async def writing(request: Connection, work: Callable[[Call], msgspec.Struct], status: int = 200) -> ASGIResponse:
    """``work`` on the thread that changes collections."""
    return await _respond(request, service_of(request).writers, work, status)


async def _respond(
    request: Connection, workers: Workers, work: Callable[[Call], msgspec.Struct], status: int
) -> ASGIResponse:
    call = call_of(request, await request.body())
    encoded = await workers.run(lambda: msgspec.json.encode(work(call)))
    return ASGIResponse(body=encoded, media_type=JSON, status_code=status)
