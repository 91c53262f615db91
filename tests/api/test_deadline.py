"""X-Request-Deadline-Ms: language models stop at it, in rerankers and in answers, and say so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.config import ModelConfig, RemoteConfig
from rag.runtime.meter import Limits, Meter, OutOfBudget, deadline, seconds_left
from tests.api.conftest import Client, MakeEngine, Serving, assert_problem
from tests.api.test_server import Slow, SlowEngine

RERANK = {"model": "prp", "query": "what pumps blood?", "documents": ["sugar", "The heart pumps blood.", "tides"]}
QUESTION = {"collection": "demo", "question": "What pumps blood?"}


@pytest.fixture(scope="module")
def reading(built_home: Path, make_engine: MakeEngine) -> Iterator[Client]:
    with TestClient(create_app(make_engine(built_home, model=ModelConfig(name="lexical")))) as client:
        yield client


def test_a_reranker_stops_at_the_deadline_with_the_best_order_so_far(reading: Client) -> None:
    ample = reading.post("/v1/rerank", json=RERANK, headers={"x-request-deadline-ms": "60000"}).json()
    assert ample["trace"]["degraded"] == ""
    assert ample["results"][0]["index"] == 1
    with_meter = Meter(Limits())
    with_meter.until = time.perf_counter() - 1
    with pytest.raises(OutOfBudget, match="the request's deadline is past"):
        with_meter.allow()


def test_the_deadline_of_the_request_reaches_the_thread_that_works(reading: Client) -> None:
    """A deadline of a microsecond is over before anything begins."""
    answer = reading.post("/v1/rerank", json=RERANK, headers={"x-request-deadline-ms": "0.001"})
    assert_problem(answer, 504, "deadline_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    assert reading.post("/v1/rerank", json=RERANK).status_code == 200, "the next request of the thread has none"


@pytest.mark.parametrize("wrong", ["0", "-1", "soon", "nan", "inf", "86400001"])
def test_a_deadline_is_a_number_of_milliseconds(reading: Client, wrong: str) -> None:
    answer = reading.post("/v1/rerank", json=RERANK, headers={"x-request-deadline-ms": wrong})
    assert assert_problem(answer, 422)["error"]["param"] == "X-Request-Deadline-Ms"


def test_the_nearest_limit_holds() -> None:
    assert Limits(50).within(20) == Limits(20)
    assert Limits(20).within(50) == Limits(20)
    assert Limits(0, 9).within(50) == Limits(50, 9)
    assert Limits(20).within(0) == Limits(20)


def test_a_meter_takes_the_deadline_of_its_thread() -> None:
    token = deadline.set(time.perf_counter() + 60)
    try:
        left = seconds_left()
        assert left is not None
        assert 59 < left <= 60
        assert Meter().until == deadline.get()
    finally:
        deadline.reset(token)
    assert seconds_left() is None


def test_the_settings_bound_every_reranker(built_home: Path, make_engine: MakeEngine) -> None:
    """A thousandth of a millisecond is over before the first pass: the order of the request stays."""
    chosen = make_engine(built_home, model=ModelConfig(name="lexical"), server={"rerank_deadline_ms": 0.001})
    with TestClient(create_app(chosen)) as client:
        body = client.post("/v1/rerank", json=RERANK | {"deadline_ms": 60_000}).json()
    assert "deadline_ms = 0.001 is used up" in body["trace"]["degraded"]


def test_what_waits_for_a_worker_beyond_the_deadline_is_not_begun(
    home: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    Slow.go, Slow.running = threading.Event(), threading.Semaphore(0)
    chosen = make_engine(home, kind=SlowEngine, server={"workers": 1})
    with serving(chosen) as running, ThreadPoolExecutor(2) as pool:

        def ask(headers: dict[str, str]) -> httpx.Response:
            return httpx.post(f"{running.url}/v1/answer", json=QUESTION, headers=headers, timeout=60)

        first = pool.submit(ask, {})
        assert Slow.running.acquire(timeout=60)
        second = pool.submit(ask, {"x-request-deadline-ms": "100"})
        time.sleep(0.3)
        Slow.go.set()
        assert first.result().status_code == 200
        assert_problem(second.result(), 504, "deadline_exceeded")


class _Dawdling(BaseHTTPRequestHandler):
    """An engine that sends nothing for a long while."""

    go = threading.Event()

    def do_POST(self) -> None:
        self.go.wait(30)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent."""


def test_a_remote_engine_is_given_up_at_the_deadline(built_home: Path, make_engine: MakeEngine) -> None:
    engine_server = ThreadingHTTPServer(("127.0.0.1", 0), _Dawdling)
    thread = threading.Thread(target=engine_server.serve_forever)
    thread.start()
    try:
        base = f"http://127.0.0.1:{engine_server.server_port}/v1"
        chosen = make_engine(built_home, remote=RemoteConfig(base_url=base, model="m"))
        asked = QUESTION | {"pipeline": {"name": "ask", "rerank": "none", "retrieve": ["bm25"], "generate": "remote"}}
        with TestClient(create_app(chosen)) as client:
            started = time.perf_counter()
            answer = client.post("/v1/answer", json=asked, headers={"x-request-deadline-ms": "1500"})
            seconds = time.perf_counter() - started
        assert answer.status_code == 200
        assert answer.json()["degraded"], "another answers in its place, and the response says so"
        assert seconds < 10, "not the minute of [remote] timeout"
    finally:
        _Dawdling.go.set()
        engine_server.shutdown()
        thread.join(30)
        engine_server.server_close()
