"""Replies of a Redis server, in any pieces a network makes of them, and what is no reply."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from rag.kv.wire import fetch
from tests.rag.kv.chunks import value


class Line:
    """A connection whose other end the test holds."""

    def __init__(self) -> None:
        self._sock, self.far = socket.socketpair()
        self._sock.settimeout(0.2)
        self.open = True

    def pack_command(self, *words: Any) -> list[bytes]:
        return [" ".join(words).encode() + b"\n"]

    def send_packed_command(self, command: Any) -> None:
        self._sock.sendall(b"".join(command))

    def disconnect(self) -> None:
        self.open = False


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made._sock.close()
    made.far.close()


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("step", [1, 3, 7, 10_000])
def test_values_come_whole_from_any_pieces(line: Line, step: int) -> None:
    values = [b"", b"\r\n$3\r\n", value(1, 400), b"x"]
    sent = bulk(values[0]) + bulk(values[1]) + b"$-1\r\n" + bulk(values[2]) + b"_\r\n" + bulk(values[3])

    def send() -> None:
        for at in range(0, len(sent), step):
            line.far.sendall(sent[at : at + step])
            time.sleep(0)

    thread = threading.Thread(target=send)
    thread.start()
    found = fetch(line, list("abcdef"))
    thread.join()
    assert [one if one is None else bytes(one) for one in found] == [*values[:2], None, values[2], None, values[3]]
    assert line.open
    assert line.far.recv(100) == b"".join(b"GET %c\n" % ord(key) for key in "abcdef")


@pytest.mark.parametrize(
    ("sent", "error", "message"),
    [
        (b"-WRONGTYPE it is a list\r\n" + bulk(b"x"), ResponseError, "WRONGTYPE"),
        (b":7\r\n", RedisConnectionError, "answered a GET with b':7'"),
        (b"$x\r\n", RedisConnectionError, "answered a GET"),
        (b"$-2\r\n", RedisConnectionError, "answered a GET"),
        (b"$99999999999999\r\n", RedisConnectionError, "answered a GET"),
        (b"$3\r\nabcdefg\r\n", RedisConnectionError, "another length"),
        (bulk(b"a") + bulk(b"b") + b"+OK\r\n", RedisConnectionError, "more than was asked"),
        (b"$" + b"1" * 20_000, RedisConnectionError, "without an end"),
        (bulk(b"a") + b"$5\r\nab", RedisTimeoutError, "Timeout"),
        (b"", RedisTimeoutError, "Timeout"),
    ],
)
def test_what_is_no_answer_ends_the_connection(line: Line, sent: bytes, error: type[RedisError], message: str) -> None:
    line.far.sendall(sent)
    with pytest.raises(error, match=message):
        fetch(line, ["a", "b"])
    assert not line.open


@pytest.mark.parametrize("sent", [b"", b"$5", b"$5\r\nab"])
def test_a_connection_that_ends_within_an_answer_is_an_error(line: Line, sent: bytes) -> None:
    line.far.sendall(sent)
    line.far.shutdown(socket.SHUT_WR)
    with pytest.raises(RedisConnectionError, match="closed the connection"):
        fetch(line, ["a"])
    assert not line.open
