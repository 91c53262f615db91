"""Requests have to arrive: in time, and with a head of bounded size. Clients that only hold connections are closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

LARGEST_HEAD = 65_536
"""Bytes of a request's first line and headers."""


class Arriving(HttpToolsProtocol):
    """uvicorn's connection, which knows since when a request has been arriving.

    since  the time.monotonic of its first byte, or of the connection where none has come; None while nothing arrives
    """

    since: float | None = None
    _in_head = True
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = time.monotonic()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and self.since is not None:
            self._head += len(data)
            if self._head > LARGEST_HEAD:
                self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.since, self._in_head, self._head = time.monotonic(), True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.since = None
        super().on_message_complete()

    def expire(self, before: float) -> None:
        """Close the connection where its request began to arrive before that time and still has not."""
        if self.since is not None and self.since < before:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Where the request's head is there somebody is at work on it already: they see that the client has gone."""
        if self.transport.is_closing():
            return
        if self._in_head:
            self.transport.write(STATUS_LINE[status] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()


def expire(connections: Iterable[Any], seconds: float) -> None:
    """Close all whose request has been arriving for longer than that; 0 closes none."""
    if seconds:
        before = time.monotonic() - seconds
        for connection in list(connections):
            connection.expire(before)
