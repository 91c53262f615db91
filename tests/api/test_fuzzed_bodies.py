"""Bodies that are nearly right, or nothing at all, on every route that takes one: an answer, and never a 500."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from api.app import create_app
from rag.config import ModelConfig
from tests.api.conftest import Client, MakeEngine

FEW = settings(
    max_examples=120, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
BOMBS = [
    b"[" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"query": "' + b"\\ud800" * 1000 + b'"}',
    b'{"query": "\xff\xfe"}',
    b"\x00" * 1000,
    b'{"k": 1e999999, "top_n": -1e400, "query": "x", "input": "x"}',
    b'{"k": ' + b"9" * 5000 + b"}",
    b'"' + b"a" * 1_000_000 + b'"',
    "﻿{}".encode(),
]


@pytest.fixture(scope="module")
def fuzzed(built_home: Path, tmp_path_factory: pytest.TempPathFactory, make_engine: MakeEngine) -> Any:
    import shutil

    home = tmp_path_factory.mktemp("fuzzed") / "home"
    shutil.copytree(built_home, home)
    with TestClient(create_app(make_engine(home, model=ModelConfig(name="lexical")))) as client:
        yield client


def takers(client: Client) -> list[tuple[str, list[bytes]]]:
    """Every route with a body, and its own examples."""
    document = client.get("/schema/openapi.json").json()
    found = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = [json.dumps(one["value"]).encode() for one in content.get("examples", {}).values()]
            if content and "post" in methods:
                found.append((path.replace("{ref}", "demo"), examples or [b"{}"]))
    return found


def test_no_body_makes_a_server_error(fuzzed: Client) -> None:
    routes = takers(fuzzed)
    assert len(routes) >= 6
    statuses: list[int] = []

    def post(path: str, body: bytes) -> None:
        response = fuzzed.post(path, content=body, headers={"content-type": "application/json"})
        assert response.status_code != 500, (path, body[:200], response.text[:500])
        statuses.append(response.status_code)

    for path, _ in routes:
        for bomb in BOMBS:
            post(path, bomb)

    @FEW
    @given(data=st.data())
    def spoilt(data: st.DataObject) -> None:
        """One byte of a right body changed, cut off there, or something put in."""
        path, examples = data.draw(st.sampled_from(routes))
        body = data.draw(st.sampled_from(examples))
        at = data.draw(st.integers(0, len(body)))
        put = data.draw(
            st.sampled_from([b"", b"null", b"[]", b"{}", b"-1", b'""', b"\xc3", b"\x00", b"9" * 40, b"1e99"])
        )
        left = data.draw(st.sampled_from([body[at:], body[at + 1 :], b""]))
        post(path, body[:at] + put + left)

    spoilt()
    assert 200 in statuses
    assert statuses.count(400) > 20
    assert fuzzed.post("/v1/search", json={"collection": "demo", "query": "light"}).status_code == 200
