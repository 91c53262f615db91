"""A client that leaves in the middle: what was done for it stops within a second, on a real connection."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from rag.assemble import Engine
from rag.config import PipelineConfig, RerankerConfig
from rag.pipeline import Pipeline
from rag.protocols import Generator
from rag.reranking.cross_encoder import CrossEncoderModel
from rag.runtime.meter import Cancelled, cancelled
from rag.values import Answer, Context, Query
from tests.api.conftest import MakeEngine, Serving
from tests.contracts.conftest import save_random_cross_encoder


class Endless(Generator):
    """Answers without end, and notes when it was stopped."""

    stopped = threading.Event()

    def stream(self, query: Query, context: Context) -> Iterator[str | Answer]:
        try:
            while True:
                yield "and "
                time.sleep(0.02)
        finally:
            self.stopped.set()


class EndlessEngine(Engine):
    def _generator(self, chosen: PipelineConfig) -> Generator:
        return Endless()


def sent(url: str, path: str, body: object, more: str = "") -> socket.socket:
    """A connection with the request on its way; ``more``  lines of its head."""
    address, content = httpx.URL(url), json.dumps(body).encode()
    connection = socket.create_connection((address.host, address.port or 80), timeout=30)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


def test_an_answer_stops_within_a_second_of_its_reader_leaving(
    home: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    Endless.stopped = threading.Event()
    with serving(make_engine(home, kind=EndlessEngine)) as running:
        asked = {"collection": "demo", "question": "What pumps blood?", "stream": True}
        with sent(running.url, "/v1/answer", asked) as connection:
            said = b""
            while b"event: token" not in said:
                said += connection.recv(65_536)
            assert not Endless.stopped.is_set()
        left = time.monotonic()
        assert Endless.stopped.wait(10)
        assert time.monotonic() - left < 1.0


class LongEngine(Engine):
    """A search works for five seconds, or until nobody waits for it."""

    begun, stopped = threading.Event(), threading.Event()

    def pipeline(self, *asked: Any, **named: Any) -> Pipeline:
        gone, end = cancelled.get(), time.monotonic() + 5.0
        self.begun.set()
        while time.monotonic() < end:
            if gone is not None and gone():
                self.stopped.set()
                raise Cancelled("nobody waits")
            time.sleep(0.02)
        return super().pipeline(*asked, **named)


@pytest.mark.parametrize("more", ["", "X-Request-Deadline-Ms: 60000\r\n"])
def test_a_search_stops_within_a_second_of_the_client_leaving(
    more: str, home: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    """Without a deadline the server's short way answers, with one the application."""
    LongEngine.begun, LongEngine.stopped = threading.Event(), threading.Event()
    with serving(make_engine(home, kind=LongEngine)) as running:
        with sent(running.url, "/v1/search", {"collection": "demo", "query": "light"}, more):
            assert LongEngine.begun.wait(30)
        left = time.monotonic()
        assert LongEngine.stopped.wait(10)
        assert time.monotonic() - left < 1.0


@pytest.mark.parametrize("leave_after", [1, 3])
def test_passes_of_a_model_stop_within_a_second_of_the_client_leaving(
    leave_after: int, home: Path, make_engine: MakeEngine, serving: Serving, tmp_path: Path
) -> None:
    """A hundred passages, one a pass of 50 ms: five seconds of work that nobody waits for."""
    path = str(save_random_cross_encoder(tmp_path))
    engine = make_engine(home, rerankers={"slow": RerankerConfig(kind="cross-encoder", model=path)})
    model = CrossEncoderModel(path, device="cpu")
    engine._cross_encoders[path] = model
    compute, passes = model._passes._compute, []
    enough = threading.Event()

    def slowly(pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        passes.append(time.monotonic())
        if len(passes) >= leave_after:
            enough.set()
        time.sleep(0.05)
        return compute(pairs)

    model._passes._compute = slowly
    model._passes._largest = 1
    passages = ["the lighthouse " * (20 + 9 * n) for n in range(100)]
    with serving(engine) as running:
        with sent(running.url, "/v1/rerank", {"model": "slow", "query": "ferry", "documents": passages}):
            assert enough.wait(60)
        left = time.monotonic()
        time.sleep(2.0)
        assert len(passes) < 100
        assert passes[-1] - left < 1.0
        assert httpx.get(f"{running.url}/health").status_code == 200
