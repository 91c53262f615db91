"""The direct way of a search answers as the application's own route does, whatever else its connection carries."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest

from api.direct import LARGEST
from rag.assemble import Engine
from tests.api.conftest import Client, Serving, assert_problem

BODIES = [
    b'{"collection": "demo", "query": "what pumps blood?", "pipeline": "bm25", "explain": true}',
    b'{"collection": "demo", "query": ["tides", "bread"], "k": 2}',
    b'{"collection": "nowhere", "query": "x"}',
    b'{"collection": "demo", "query": ""}',
    b'{"collection": "demo", "query": "x", "k": 0}',
    b'{"collection": "demo", "qery": "x"}',
    b'{"collection": "demo", "query": "x", "pipeline": "hybird"}',
    b"{",
    b"",
]


def timeless(value: Any) -> Any:
    """The value without what differs from one call to the next."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in ("time_ms", "total_time_ms")}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def stages(response: httpx.Response) -> list[str]:
    """The names in the header Server-Timing, which is taken away."""
    return [one.split(";")[0] for one in response.headers.pop("server-timing", "").split(", ")]


@pytest.fixture(scope="module")
def url(engine: Engine, serving: Serving) -> Iterator[str]:
    """A real server: the direct way begins at its connections."""
    with serving(engine) as running:
        yield running.url


@pytest.mark.parametrize("body", BODIES)
def test_both_ways_answer_alike(client: Client, url: str, body: bytes) -> None:
    headers = {"content-type": "application/json", "x-request-id": "same"}
    direct = httpx.post(f"{url}/v1/search", content=body, headers=headers)
    other = client.post("/v1/search", content=body, headers=headers)
    assert direct.status_code == other.status_code
    assert timeless(direct.json()) == timeless(other.json())
    assert direct.headers.pop("date")
    assert stages(direct) == stages(other)
    assert dict(direct.headers) | {"content-length": ""} == dict(other.headers) | {"content-length": ""}


def test_another_method_and_a_large_body_are_left_to_the_application(url: str) -> None:
    assert_problem(httpx.get(f"{url}/v1/search"), 405)
    response = httpx.post(f"{url}/v1/search", json={"collection": "demo", "query": "a " * LARGEST})
    assert_problem(response, 422, "invalid_query")


def test_a_body_of_unknown_length_is_left_to_the_application(url: str) -> None:
    response = httpx.post(f"{url}/v1/search", content=iter([BODIES[0][:20], BODIES[0][20:]]))
    assert response.json()["results"][0]["document_id"] == "bio/heart"


def wire(url: str) -> socket.socket:
    parsed = httpx.URL(url)
    return socket.create_connection((parsed.host, parsed.port or 80), timeout=30)


def posted(name: str, *more: str) -> bytes:
    """A search as it goes over the wire; ``name`` is its id."""
    head = [
        "POST /v1/search HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(BODIES[0])}",
        f"X-Request-ID: {name}",
        *more,
    ]
    return "\r\n".join([*head, "", ""]).encode() + BODIES[0]


def answered(connection: socket.socket) -> tuple[HTTPResponse, Any]:
    response = HTTPResponse(connection)
    response.begin()
    return response, json.loads(response.read())


def all_answers(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_one_connection_serves_search_after_search(url: str) -> None:
    with wire(url) as connection:
        for name in ("one", "two", "three"):
            connection.sendall(posted(name))
            assert answered(connection)[1]["trace"]["request_id"] == name


def test_requests_sent_ahead_are_answered_in_order(url: str) -> None:
    alive = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: three\r\n\r\n"
    ahead = posted("one") + posted("two") + alive + posted("four", "Connection: close")
    with wire(url) as connection:
        connection.sendall(ahead)
        said = all_answers(connection)
    assert said.count(b"HTTP/1.1 200 OK") == 4
    places = [said.index(b"x-request-id: " + name) for name in (b"one", b"two", b"three", b"four")]
    assert places == sorted(places)


def test_a_request_may_come_in_pieces_and_its_client_may_want_the_connection_closed(url: str) -> None:
    request = posted("slowly", "Connection: close")
    with wire(url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(request), 40):
            connection.sendall(request[at : at + 40])
        said = all_answers(connection)
    assert b"\r\nconnection: close\r\n" in said.lower()
    assert json.loads(said.split(b"\r\n\r\n", 1)[1])["trace"]["request_id"] == "slowly"


def test_a_client_that_asks_first_is_told_to_go_on(url: str) -> None:
    head, body = posted("careful", "Expect: 100-continue").split(b"\r\n\r\n")
    with wire(url) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert answered(connection)[0].status == 200


def test_a_client_that_leaves_early_harms_nobody(url: str) -> None:
    for _ in range(20):
        with wire(url) as connection:
            connection.sendall(posted("gone"))
    with wire(url) as connection:
        connection.sendall(posted("here"))
        assert answered(connection)[1]["trace"]["request_id"] == "here"
