"""Liveness and readiness. Live: the loop turns. Ready: models, Java and collections have been opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
from litestar import get
from litestar.response.base import ASGIResponse

from api.access import OPEN
from api.openapi import documented
from api.schemas import Alive, Dependency, Readiness
from api.service import JSON, Connection, service_of
from api.warmup import COLLECTION, Warmup, entry

_ALIVE = msgspec.json.encode(Alive())
_REDIS_SECONDS = 2.0


@get(
    ["/health", "/healthz", "/health/live", "/ping"],
    opt=OPEN,
    summary="Liveness",
    description="Always ok while the process answers.",
    operation_class=documented(None, {}, {200: (Alive,)}, errors=(500,)),
)
async def alive() -> ASGIResponse:
    return ASGIResponse(body=_ALIVE, media_type=JSON)


@get(
    ["/ready", "/health/ready"],
    opt=OPEN,
    summary="Readiness",
    description="200 once everything is warm, 503 before. A missing optional part or a damaged collection makes the "
    "status `degraded`, and requests are served. Where keys are asked for, no collection is named and no error told: "
    "the server's log does.",
    operation_class=documented(None, {}, {200: (Readiness,), 503: (Readiness,)}, errors=(500,)),
)
async def ready(request: Connection) -> ASGIResponse:
    service = service_of(request)
    redis = await redis_entry(service.engine.settings.redis_url)
    state = readiness(service.warmup, redis, draining=service.draining)
    if service.guard.closed:
        state = Readiness(state.status, anonymous(state.dependencies))
    serving = state.status in ("ready", "degraded")
    headers = {} if serving else {"Retry-After": "1"}
    body = msgspec.json.encode(state)
    return ASGIResponse(body=body, media_type=JSON, status_code=200 if serving else 503, headers=headers)


def readiness(warmup: Warmup, redis: Dependency, *, draining: bool = False) -> Readiness:
    """The whole from its parts. Redis is optional: without it the answer is the same, only slower."""
    entries = [*warmup.entries, redis]
    if draining:
        return Readiness("draining", entries)
    if not warmup.finished:
        return Readiness("warming", entries)
    if not warmup.usable:
        return Readiness("unready", entries)
    sound = all(one.status != "unhealthy" for one in entries)
    return Readiness("ready" if sound else "degraded", entries)


def anonymous(entries: Sequence[Dependency]) -> list[Dependency]:
    """What a stranger may know: no errors, and all collections as one entry, sound where each of them is."""
    named = [one for one in entries if one.service.startswith(COLLECTION)]
    told = [Dependency(one.service, one.status, one.latency_ms, None) for one in entries if one not in named]
    if named:
        sound = all(one.status == "healthy" for one in named)
        spent = round(sum(one.latency_ms for one in named), 3)
        told.append(Dependency("collections", "healthy" if sound else "unhealthy", spent, None))
    return told


async def redis_entry(url: str) -> Dependency:
    """What PING says; ``skipped`` where no Redis is configured. Of an error only its class: texts may hold the URL."""
    if not url:
        return Dependency("redis", "skipped", 0.0, None)
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    started = time.perf_counter()
    try:
        async with asyncio.timeout(_REDIS_SECONDS):
            async with Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0) as client:
                await client.ping()
    except (RedisError, OSError, ValueError) as error:  # TimeoutError is an OSError
        return entry("redis", started, type(error).__name__)
    return entry("redis", started, None)
