"""Requests have to arrive: in time, and with a head of bounded size. Clients that only hold connections are closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

LARGEST_HEAD = 65_536
"""Bytes of a request's first line and headers."""
UPLOADS = b"/v1/jobs"
"""Where bodies may take any time, as long as they come."""
REST_SECONDS = 60.0
"""The longest that an upload may rest."""
_ANSWER_SECONDS = 5.0
"""So much later the connection of one that rests is closed: whoever reads the upload can say why."""


class Arriving(HttpToolsProtocol):
    """uvicorn's connection, which knows since when a request has been arriving.

    since  the time.monotonic of its first byte, or of the connection where none has come; None while nothing arrives
    rests  the time.monotonic of the last bytes of an upload that is read, which has no ``since``; None without one
    """

    since: float | None = None
    rests: float | None = None
    _in_head = True
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        if self.rests is not None and not self.cycle.response_complete:
            self.rests = time.monotonic()
        super().data_received(data)
        if self._in_head and self.since is not None:
            self._head += len(data)
            if self._head > LARGEST_HEAD:
                self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.since, self.rests, self._in_head, self._head = time.monotonic(), None, True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        if self.parser.get_method() == b"POST" and self.url.partition(b"?")[0] == UPLOADS:
            self.since, self.rests = None, time.monotonic()

    def on_message_complete(self) -> None:
        self.since = self.rests = None
        super().on_message_complete()

    def expire(self, before: float, rest: float) -> None:
        """Close the connection where its request began to arrive before that time and still has not.

        An upload is closed where nothing of it has come since ``rest``, unless it is the server that does not read.
        """
        late = self.since is not None and self.since < before
        idle = self.rests is not None and self.rests < rest and not self.flow.read_paused
        if late or idle:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Answer where no answer has begun, and close; who is at work on the request sees that the client has gone."""
        if self.transport.is_closing():
            return
        if self._in_head or not (self.pipeline or getattr(self.cycle, "response_started", True)):
            self.transport.write(STATUS_LINE[status] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()


def expire(connections: Iterable[Any], seconds: float) -> None:
    """Close all whose request has been arriving for longer than that, 0 for none, and uploads that rest too long."""
    now = time.monotonic()
    before = now - seconds if seconds else 0.0
    for connection in list(connections):
        connection.expire(before, now - REST_SECONDS - _ANSWER_SECONDS)
