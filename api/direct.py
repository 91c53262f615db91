"""The shortest way for POST /v1/search: the same work and the same errors, without ASGI and the framework's layers.

Tasks, events, routing and response objects cost a search more than Lucene does. Everything else, large bodies among
it, goes to the application; its own route for searches stays, and answers alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.account import CLIENT_LEFT, LEFT_STATUS, server_timing
from api.arrival import Arriving
from api.errors import PROBLEM, problem_of
from api.guard_headers import PROTECTING
from api.observed import opened
from api.request_id import request_id
from api.search import searched
from api.service import JSON, Call, Service
from rag.errors import Overloaded

LARGEST = 65_536
"""Bytes of body that are taken here; more is left to the application, which knows the limits. uvicorn stops reading a
connection above this."""

_GUARDED = (b"origin", b"x-request-deadline-ms")
"""What the application's guard has to look at; a server that asks for keys leaves every search to it."""
_PROTECTING = "".join(f"{name}: {value}\r\n" for name, value in PROTECTING.items())


class Exchange:
    """A small search under way on a connection, in the place of uvicorn's cycle of an ASGI request."""

    message_event = asyncio.Event()  # nobody waits for it
    disconnected = False

    def __init__(self, scope: Scope, keep_alive: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.response_complete = False
        self.found: asyncio.Future[bytes] | None = None


class Direct(Arriving):
    """uvicorn's connection, which answers small searches by itself, one at a time."""

    cycle: Any

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.service: Service = self.config.app.state.service  # type: ignore[union-attr]

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.url == b"/v1/search" and not self.service.guard.closed and self._is_plain() and self._is_free():
            keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
            self.cycle = Exchange(self.scope, keep_alive)  # type: ignore[arg-type]
        else:
            super().on_headers_complete()

    def _is_plain(self) -> bool:
        """True for a POST of a few bytes, sent by no web page, without asking first, a deadline or another protocol."""
        if self.parser.get_method() != b"POST" or self.expect_100_continue or self.parser.should_upgrade():
            return False
        length = b""
        for name, value in self.headers:
            if name in _GUARDED:
                return False
            if name == b"content-length":
                length = value
        return length.isdigit() and int(length) <= LARGEST

    def _is_free(self) -> bool:
        """True where no earlier request of this connection is still being answered."""
        return self.cycle is None or self.cycle.response_complete

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if isinstance(self.cycle, Exchange):
            self._search(self.cycle)

    def _search(self, exchange: Exchange) -> None:
        call = Call(self.service.engine, bytes(exchange.body), request_id(exchange.scope), opened(exchange.scope))
        call.account.method, call.account.route = "POST", "/v1/search"
        self.service.accounts.begin()

        def answer(done: asyncio.Future[bytes]) -> None:
            if done.cancelled():
                self._end(call, LEFT_STATUS, CLIENT_LEFT)
                return
            error = done.exception()
            if error is None:
                headers = {"x-request-id": call.request_id, "content-type": JSON}
                headers["server-timing"] = server_timing(call.account)
                self._respond(exchange, 200, headers, done.result())
                self._end(call, 200)
            else:
                self._fail(exchange, call, error)

        try:
            exchange.found = self.service.workers.submit(lambda: msgspec.json.encode(searched(call)))
        except Overloaded as error:
            self._fail(exchange, call, error)
        else:
            exchange.found.add_done_callback(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """A search that nobody waits for any more is not begun, and a language model in it stops."""
        if isinstance(self.cycle, Exchange) and self.cycle.found is not None:
            self.cycle.found.cancel()
        super().connection_lost(exc)

    def _fail(self, exchange: Exchange, call: Call, error: BaseException) -> None:
        assert isinstance(error, Exception), "the worker threads pass on nothing else"
        problem, more = problem_of(error, call.request_id, str(call.engine.home.root))
        headers = {"x-request-id": call.request_id, **more, "content-type": PROBLEM}
        if call.account.reports:
            headers["server-timing"] = server_timing(call.account)
        self._respond(exchange, problem.status, headers, msgspec.json.encode(problem))
        self._end(call, problem.status, problem.error.code)

    def _end(self, call: Call, status: int, code: str = "") -> None:
        call.account.status, call.account.error = status, code
        self.service.accounts.end(call.account)

    def _respond(self, exchange: Exchange, status: int, headers: Mapping[str, str], content: bytes) -> None:
        """Head and body in one write, then whatever uvicorn does after an answer: the next request, or a timer."""
        exchange.response_complete = True
        if self.transport.is_closing():
            return
        lines = [f"{name.lower()}: {value}\r\n" for name, value in headers.items()]
        lines.append(_PROTECTING)
        lines.append(f"content-length: {len(content)}\r\n")
        lines.append("\r\n" if exchange.keep_alive else "connection: close\r\n\r\n")
        default = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        self.transport.write(b"".join([STATUS_LINE[status], *default, "".join(lines).encode("latin-1"), content]))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()
