"""Clients that send slowly, or more than is good, lose their connection; others notice nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api import arrival
from api.arrival import LARGEST_HEAD
from api.serve import Server
from rag.config import JobsConfig
from tests.api.conftest import MakeEngine, Serving

SEARCH = b'{"collection": "demo", "query": "light", "pipeline": "bm25"}'


@pytest.fixture(scope="module")
def server(built_home: Path, serving: Serving, make_engine: MakeEngine) -> Iterator[Server]:
    """Requests have a second to arrive."""
    engine = make_engine(built_home, server={"arrival_seconds": 1.0, "max_body_mb": 1})
    with serving(engine) as running:
        yield running


def wire(server: Server) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port or 80), timeout=15)


def all_of(connection: socket.socket) -> bytes:
    try:
        return b"".join(iter(lambda: connection.recv(65_536), b""))
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nX-A: ",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 59\r\n\r\n" + SEARCH[:20],
        b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 590\r\n\r\n" + SEARCH[:20],
        b"POST /v1/answer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
    ids=["nothing", "half a head", "half a search", "half a body", "half a chunk"],
)
def test_what_does_not_arrive_in_time_is_closed(server: Server, sent: bytes) -> None:
    started = time.monotonic()
    with wire(server) as connection:
        connection.sendall(sent)
        all_of(connection)
    assert 0.5 < time.monotonic() - started < 10


def test_whoever_is_cut_in_the_middle_of_a_body_is_told(server: Server) -> None:
    with wire(server) as connection:
        connection.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 590\r\n\r\n{")
        assert all_of(connection).startswith(b"HTTP/1.1 408 ")


UPLOAD = b"POST /v1/jobs?collection=c HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
ROW = b'{"id": "a", "text": "green"}\n'


@pytest.fixture
def taking(home: Path, serving: Serving, make_engine: MakeEngine) -> Iterator[Server]:
    """Requests have a second to arrive, and no job is worked on."""
    engine = make_engine(home, server={"arrival_seconds": 1.0}, jobs=JobsConfig(running=0, min_free_mb=0))
    with serving(engine) as running:
        yield running


def test_an_upload_may_take_any_time_as_long_as_it_comes(taking: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "REST_SECONDS", 1.5)
    with wire(taking) as connection:
        connection.sendall(UPLOAD + b"Content-Length: %d\r\n\r\n" % (12 * len(ROW)))
        for _ in range(12):
            time.sleep(0.3)
            connection.sendall(ROW)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 202 ")


def test_an_upload_that_rests_is_answered(taking: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "REST_SECONDS", 0.5)
    for kind in (b"application/x-ndjson", b"application/json"):
        with wire(taking) as connection:
            head = UPLOAD.replace(b"application/x-ndjson", kind)
            connection.sendall(head + b"Connection: close\r\nContent-Length: 1000\r\n\r\n{")
            answer = all_of(connection)
        assert answer.startswith(b"HTTP/1.1 422 ")
        assert b"nothing of the body came for 0.5 seconds" in answer


def test_what_follows_a_refused_upload_keeps_no_connection(taking: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "REST_SECONDS", 0.5)
    monkeypatch.setattr(arrival, "_ANSWER_SECONDS", 0.5)
    started = time.monotonic()
    with wire(taking) as connection:
        connection.sendall(UPLOAD.replace(b"=c ", b"=.. ") + b"Content-Length: 1000\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 422 ")
        with pytest.raises(OSError):  # noqa: PT012
            while time.monotonic() - started < 10:
                connection.sendall(b"{")
                time.sleep(0.1)
    assert time.monotonic() - started < 10


def test_a_drop_at_a_time_does_not_keep_a_connection(server: Server) -> None:
    """Slow loris: the time counts from the first byte, not from the last."""
    started = time.monotonic()
    with wire(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        with pytest.raises(OSError):  # noqa: PT012
            while time.monotonic() - started < 12:
                connection.sendall(b"X-A: b\r\n")
                time.sleep(0.1)
    assert time.monotonic() - started < 10


def test_a_head_without_end_is_cut_off(server: Server) -> None:
    with wire(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        with pytest.raises(OSError):  # noqa: PT012
            while sent < 100 * LARGEST_HEAD:
                sent += connection.send(b"X-A: " + b"b" * 8000 + b"\r\n")
    assert sent < 100 * LARGEST_HEAD


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    with wire(server) as connection:
        connection.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{")
        assert b" 413 " in connection.recv(65_536)


def test_a_kept_connection_may_be_idle_between_requests_for_longer(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        for _ in range(2):
            assert client.get("/health").status_code == 200
            assert client.post("/v1/search", content=SEARCH).status_code == 200
            time.sleep(2.2)
        connections = server.server_state.connections
        assert [one.since for one in connections if not one.transport.is_closing()] == [None]  # type: ignore[union-attr]


def test_a_hundred_slow_connections_hold_nobody_up(server: Server) -> None:
    held = [wire(server) for _ in range(100)]
    for connection in held:
        connection.sendall(b"POST /v1/answer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    try:
        assert httpx.post(f"{server.url}/v1/search", content=SEARCH, timeout=10).status_code == 200
    finally:
        for connection in held:
            connection.close()


def test_ready_says_so_before_the_server_stops_listening(
    built_home: Path, serving: Serving, make_engine: MakeEngine
) -> None:
    engine = make_engine(built_home, server={"unready_ms": 3000.0})
    with serving(engine) as running:
        url = running.url
        for _ in range(200):
            if httpx.get(f"{url}/ready").status_code == 200:
                break
            time.sleep(0.1)
        threading.Timer(0.0, lambda: setattr(running, "should_exit", True)).start()
        time.sleep(1.0)
        told = httpx.get(f"{url}/ready")
        assert (told.status_code, told.json()["status"]) == (503, "draining")
        assert httpx.get(f"{url}/health").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")
