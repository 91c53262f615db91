"""The shortest way for POST /v1/search: the same work and the same errors, without the framework's layers.

Routing, parameter models and response objects cost a search more than Lucene does. Everything else, large bodies
among it, goes to the application; its own route for searches stays, and answers alike.
"""

from __future__ import annotations

import msgspec
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from api.errors import PROBLEM, problem_of
from api.request_id import request_id
from api.search import searched
from api.service import JSON, Call, Service

LARGEST = 65_536
"""Bytes of body that are taken here; more is left to the application, which knows the limits."""


class Direct:
    """An ASGI application in front of another one."""

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self.service: Service = app.state.service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"] == "/v1/search" and _is_small_post(scope):
            await self._search(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _search(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})
        body = await _body(receive)
        if body is None:
            return
        call = Call(self.service.engine, body, request_id(scope))
        headers = {"x-request-id": call.request_id}
        try:
            content = await self.service.workers.run(lambda: msgspec.json.encode(searched(call)))
            status, kind = 200, JSON
        except Exception as error:  # noqa: BLE001 - the outermost frame of a request: every error has its answer
            problem, more = problem_of(error, call.request_id, str(call.engine.home.root))
            content, status, kind = msgspec.json.encode(problem), problem.status, PROBLEM
            headers |= {name.lower(): value for name, value in more.items()}
        headers |= {"content-type": kind, "content-length": str(len(content))}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content, "more_body": False})


def _is_small_post(scope: Scope) -> bool:
    if scope["method"] != "POST":  # type: ignore[typeddict-item]
        return False
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return length.isdigit() and int(length) <= LARGEST


async def _body(receive: Receive) -> bytes | None:
    """The whole body, None where the client went away."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message["body"])
        if not message.get("more_body"):
            return b"".join(parts)
