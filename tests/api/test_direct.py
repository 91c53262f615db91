"""The direct way of a search answers as the application's own route does."""

from __future__ import annotations

from typing import Any

import pytest

from api.direct import LARGEST
from tests.api.conftest import Client, assert_problem

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


@pytest.mark.parametrize("body", BODIES)
def test_both_ways_answer_alike(client: Client, routed: Client, body: bytes) -> None:
    headers = {"content-type": "application/json", "x-request-id": "same"}
    direct = client.post("/v1/search", content=body, headers=headers)
    other = routed.post("/v1/search", content=body, headers=headers)
    assert direct.status_code == other.status_code
    assert timeless(direct.json()) == timeless(other.json())
    assert dict(direct.headers) | {"content-length": ""} == dict(other.headers) | {"content-length": ""}


def test_another_method_and_a_large_body_are_left_to_the_application(client: Client) -> None:
    assert_problem(client.get("/v1/search"), 405)
    response = client.post("/v1/search", json={"collection": "demo", "query": "a " * LARGEST})
    assert_problem(response, 422, "invalid_query")
