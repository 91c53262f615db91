"""What the handlers share, and the way every request takes: body, worker thread, JSON bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar import Request
from litestar.response.base import ASGIResponse

from api.account import Account, Accounts, account_of
from api.request_id import request_id
from api.warmup import Warmup
from api.workers import Workers
from rag.assemble import Engine

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
    """

    engine: Engine
    workers: Workers = field(init=False)
    writers: Workers = field(init=False)
    scraper: Workers = field(init=False)
    accounts: Accounts = field(init=False, default_factory=Accounts)
    warmup: Warmup = field(init=False)
    job_counts: Callable[[], Mapping[str, float]] = field(init=False, default=dict)
    _warming: asyncio.Task[None] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        server = self.engine.settings.server
        self.workers = Workers(server.threads, server.queue)
        self.writers = Workers(1, server.queue, name="writer")
        self.scraper = Workers(1, 8, name="scraper")
        self.warmup = Warmup(self.engine)

    async def start(self) -> None:
        self.workers.start()
        self.writers.start()
        self.scraper.start()
        self._warming = asyncio.create_task(self.writers.run(self.warmup.run))
        self._warming.add_done_callback(_report)

    async def close(self) -> None:
        await self.writers.close()
        await self.workers.close()
        await self.scraper.close()
        self.engine.caching.close()


def _report(warming: asyncio.Task[None]) -> None:
    if not warming.cancelled() and (error := warming.exception()) is not None:
        log.error("warm-up failed", exc_info=error)


def service_of(request: Connection) -> Service:
    service: Service = request.app.state.service
    return service


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
