"""Large values from a Redis connection straight into memory of our own, without the copies of a general parser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

_HELD = 2**14
_MOST = 512 * 2**20


class Connection(Protocol):
    """What is used of redis-py's connections."""

    _sock: Any

    def pack_command(self, *args: Any) -> Any: ...
    def send_packed_command(self, command: Any) -> None: ...
    def disconnect(self) -> None: ...


def fetch(connection: Connection, keys: Sequence[str]) -> list[memoryview | None]:
    """The values of the keys, sent in one go and read one after the other; the socket's timeout holds for each part.

    Raises redis-py's ConnectionError, TimeoutError and ResponseError; the connection is closed then.
    """
    try:
        connection.send_packed_command([part for key in keys for part in connection.pack_command("GET", key)])
        reader = _Reader(connection._sock)
        values = [reader.value() for _ in keys]
        if reader.held():
            raise RedisConnectionError("Redis sent more than was asked for")
    except TimeoutError as error:
        connection.disconnect()
        raise RedisTimeoutError("Timeout reading from Redis") from error
    except OSError as error:
        connection.disconnect()
        raise RedisConnectionError(f"Reading from Redis: {error}") from error
    except BaseException:
        connection.disconnect()
        raise
    return values


class _Reader:
    """Bulk strings of RESP2 and RESP3 from a socket."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._buffer = memoryview(bytearray(_HELD))
        self._start = self._end = 0

    def held(self) -> int:
        """Bytes received and not taken."""
        return self._end - self._start

    def value(self) -> memoryview | None:
        line = self._line()
        if line in (b"$-1", b"_"):
            return None
        if line[:1] == b"-":
            raise ResponseError(line[1:].decode(errors="replace"))
        if line[:1] != b"$" or not line[1:].isdigit() or int(line[1:]) > _MOST:
            raise RedisConnectionError(f"Redis answered a GET with {line[:40]!r}")
        size = int(line[1:])
        value = np.empty(size + 2, np.uint8).data
        taken = min(self.held(), size + 2)
        value[:taken] = self._buffer[self._start : self._start + taken]
        self._start += taken
        while taken < size + 2:
            received = self._sock.recv_into(value[taken:])
            if not received:
                raise RedisConnectionError("Redis closed the connection within a value")
            taken += received
        if bytes(value[size:]) != b"\r\n":
            raise RedisConnectionError("Redis sent a value of another length than it said")
        return value[:size].toreadonly()

    def _line(self) -> bytes:
        while True:
            line, end, _ = bytes(self._buffer[self._start : self._end]).partition(b"\r\n")
            if end:
                self._start += len(line) + 2
                return line
            if self.held() == _HELD:
                raise RedisConnectionError("Redis sent a line without an end")
            if self._start:
                kept = bytes(self._buffer[self._start : self._end])
                self._buffer[: len(kept)] = kept
                self._start, self._end = 0, len(kept)
            received = self._sock.recv_into(self._buffer[self._end :])
            if not received:
                raise RedisConnectionError("Redis closed the connection")
            self._end += received
