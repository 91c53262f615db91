"""The application on a real uvicorn: overload, a loop that is never blocked, an orderly end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.serve import Server, server
from api.workers import Workers
from rag.assemble import Engine
from rag.config import PipelineConfig, Settings
from rag.protocols import Generator
from rag.values import Answer, Context, Query, StageReport, Usage
from tests.api.conftest import MakeEngine, Serving, assert_problem

QUESTION = {"collection": "demo", "question": "What pumps blood?"}


class Slow(Generator):
    """Answers when it is let go."""

    go = threading.Event()
    running = threading.Semaphore(0)

    def stream(self, query: Query, context: Context) -> Iterator[str | Answer]:
        self.running.release()
        assert self.go.wait(60)
        yield "done"
        yield Answer("done", True, (), context, Usage(), "slow", StageReport("generate"))


class SlowEngine(Engine):
    def _generator(self, chosen: PipelineConfig) -> Generator:
        return Slow()


@pytest.fixture
def slow(home: Path, make_engine: MakeEngine) -> Engine:
    """Two workers, a queue of two, and answers that wait for ``Slow.go``."""
    Slow.go, Slow.running = threading.Event(), threading.Semaphore(0)
    return make_engine(home, kind=SlowEngine, server={"workers": 2, "queue": 2})


def test_it_says_where_it_listens_on_loopback(home: Path, make_engine: MakeEngine) -> None:
    lines: list[str] = []
    up = threading.Event()

    def announce(line: str) -> None:
        lines.append(line)
        up.set()

    running = server(make_engine(home), announce)
    thread = threading.Thread(target=running.run)
    thread.start()
    assert up.wait(30)
    running.should_exit = True
    thread.join(40)
    assert len(lines) == 1
    assert lines[0].startswith("Kvasir listens on http://127.0.0.1:")
    assert Settings().server.host == "127.0.0.1"


def test_a_full_queue_is_a_429_and_the_loop_still_turns(slow: Engine, serving: Serving) -> None:
    search = {"collection": "demo", "query": "light"}
    with serving(slow) as running, ThreadPoolExecutor(4) as pool:
        url = running.url
        held = [pool.submit(httpx.post, f"{url}/v1/answer", json=QUESTION, timeout=60) for _ in range(2)]
        assert all(Slow.running.acquire(timeout=60) for _ in range(2))
        held += [pool.submit(httpx.post, f"{url}/v1/search", json=search, timeout=60) for _ in range(2)]
        until(lambda: workers_of(running).pending == 4)
        for path, body in (("search", search), ("answer", QUESTION), ("answer", QUESTION | {"stream": True})):
            refused = httpx.post(f"{url}/v1/{path}", json=body, timeout=10)
            assert_problem(refused, 429, "overloaded")
            assert refused.headers["retry-after"] == "1"
        for path in ("health", "ready", "schema"):
            assert httpx.get(f"{url}/{path}", timeout=10).status_code in (200, 503)
        Slow.go.set()
        assert [response.result().status_code for response in held] == [200] * 4
        assert httpx.post(f"{url}/v1/search", json=search, timeout=60).status_code == 200


def workers_of(running: Server) -> Workers:
    app: Any = running.config.app
    workers: Workers = app.state.service.workers
    return workers


def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


def test_a_request_under_way_is_finished_at_shutdown(slow: Engine, serving: Serving) -> None:
    before = set(threading.enumerate())
    with ThreadPoolExecutor(1) as pool:
        with serving(slow) as running:
            held = pool.submit(httpx.post, f"{running.url}/v1/answer", json=QUESTION, timeout=60)
            assert Slow.running.acquire(timeout=60)
            threading.Timer(0.5, Slow.go.set).start()
        assert Slow.go.is_set(), "the server stopped before the answer was let go"
        assert held.result().json()["answer"] == "done"
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("kvasir-")]
    assert left == []
