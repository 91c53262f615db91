"""The guard around every route, whoever wrote it: one middleware, nothing to remember in a handler."""

from __future__ import annotations

import time

from litestar.enums import ScopeType
from litestar.middleware.base import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from api.access import access_of
from api.account import account_of
from api.errors import InvalidBody
from api.guard_origin import Headers, check_origin, header
from api.service import Service, see_as
from rag.config import ServerConfig
from rag.runtime.meter import deadline
from rag.tables import MAX_DEADLINE_MS

DEADLINE = b"x-request-deadline-ms"


class Guarded(ASGIMiddleware):
    """Stands before every handler, mounted applications too."""

    scopes = (ScopeType.HTTP, ScopeType.ASGI)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        service: Service = scope["litestar_app"].state.service
        guard = service.guard
        headers: Headers = scope["headers"]
        deadline.set(_deadline(headers, guard.server))
        if not guard.closed:
            check_origin(headers, guard.server)
            await next_app(scope, receive, send)
            return
        key = guard.admit(headers, access_of(scope["route_handler"].opt))
        if key is None:
            await next_app(scope, receive, send)
            return
        account_of(scope).key = key.id
        see_as(scope, service.seen_by(key))
        with guard.held(key, scope):
            await next_app(scope, receive, send)


def _deadline(headers: Headers, chosen: ServerConfig) -> float | None:
    """When the request has to be answered, a time.perf_counter reading. Raises InvalidBody for no number."""
    text = header(headers, DEADLINE)
    if not text:
        return time.perf_counter() + chosen.deadline_ms / 1e3 if chosen.deadline_ms else None
    try:
        asked = float(text)
    except ValueError:
        asked = -1.0
    if not 0 < asked <= MAX_DEADLINE_MS:
        rule = f"milliseconds above 0, at most {MAX_DEADLINE_MS:.0f}"
        raise InvalidBody(f"X-Request-Deadline-Ms: {text[:40]!r}; it takes {rule}", "X-Request-Deadline-Ms")
    most = min(asked, chosen.deadline_ms) if chosen.deadline_ms else asked
    return time.perf_counter() + most / 1e3
