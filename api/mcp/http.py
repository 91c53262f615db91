"""/mcp: the tools over streamable HTTP, without sessions, so that any worker process can take any request.

Nothing of the protocol is loaded before somebody asks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from litestar import Litestar, asgi
from litestar.exceptions import MethodNotAllowedException
from litestar.types import Receive, Scope, Send

from api.access import READ
from api.account import account_of
from api.guard_origin import check_page
from api.request_id import request_id
from api.service import Call, Service, service_in

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

_STATE = "kvasir_mcp"


class Http:
    """The protocol's side of a server, from its first request to the end of the server."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._stop = asyncio.Event()
        self._up: asyncio.Future[StreamableHTTPSessionManager] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())

    async def manager(self) -> StreamableHTTPSessionManager:
        return await asyncio.shield(self._up)

    async def close(self) -> None:
        self._stop.set()
        await self._task

    async def _run(self) -> None:
        try:
            manager = await asyncio.to_thread(_made, self._max_body)  # importing it takes a second
            async with manager.run():
                self._up.set_result(manager)
                await self._stop.wait()
        except Exception as error:
            if self._up.done():
                raise
            self._up.set_exception(error)


def _made(max_body: int) -> StreamableHTTPSessionManager:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from api.mcp.server import mcp_server

    return StreamableHTTPSessionManager(mcp_server(), stateless=True, max_request_body_size=max_body)


@asgi("/mcp", opt=READ, copy_scope=False)
async def mcp(scope: Scope, receive: Receive, send: Send) -> None:
    app: Litestar = scope["litestar_app"]
    service: Service = app.state.service
    server = service.engine.settings.server
    if scope.get("method") != "POST":  # without sessions there is no stream to open and none to end
        raise MethodNotAllowedException(headers={"Allow": "POST"})
    check_page(scope["headers"], server)  # a key does not protect a page's user from another page
    if _STATE not in app.state:
        app.state[_STATE] = Http(server.max_body_mb * 2**20)
    http: Http = app.state[_STATE]
    manager = await http.manager()

    from api.mcp.server import Asking, asking

    call = Call(service_in(scope, service).engine, b"", request_id(scope), account_of(scope))
    asking.set(Asking(lambda: call, service.workers))
    await manager.handle_request(scope, receive, send)  # type: ignore[arg-type]


async def close_mcp(app: Litestar) -> None:
    """At the server's end."""
    http: Http | None = app.state.get(_STATE)
    if http is not None:
        await http.close()
