"""POST /v1/answer by the server's own language model, whole and as a stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.assemble import Engine
from rag.config import GenerationConfig, ModelConfig
from rag.runtime.decoding import TextStream
from rag.runtime.keyvalues import RowStates
from tests.api.conftest import Client, MakeEngine, Serving, assert_problem
from tests.api.test_answer import ask, events
from tests.speaking_models import saved_speaking
from tests.tiny_models import one_thread, saved

__all__ = ["one_thread"]
SAYS = "The heart pumps blood [1]."
LOCAL = {"name": "ask", "generate": "local"}


@pytest.fixture(scope="module")
def speaker(built_home: Path, make_engine: MakeEngine) -> Iterator[Client]:
    """A client of an engine whose model says SAYS."""
    with TestClient(create_app(engine_with(make_engine, built_home, saved_speaking(SAYS)))) as opened:
        yield opened


def engine_with(make_engine: MakeEngine, home: Path, model: Path, **settings: Any) -> Engine:
    chosen = ModelConfig(name=str(model), device="cpu", dtype="float32")
    return make_engine(home, model=chosen, generation=GenerationConfig(**settings))


def test_the_answer_is_the_model_s(speaker: Client) -> None:
    body = ask(speaker, pipeline=LOCAL).json()
    assert (body["answer"], body["found"], body["generator"]) == (SAYS, True, "speaking-llama")
    (citation,) = body["citations"]
    assert (citation["number"], citation["chunk_id"]) == (1, body["sources"][0]["chunk_id"])
    stage = body["trace"]["stages"][-1]
    assert stage["stage"] == "generate"
    assert stage["tokens"] == body["usage"]["prompt_tokens"] - 1
    assert stage["decoded"] == body["usage"]["completion_tokens"]
    assert 0 < stage["first_token_ms"] < stage["time_ms"]


def test_a_stream_gives_the_words_as_they_come(speaker: Client) -> None:
    whole = ask(speaker, pipeline=LOCAL).json()
    told = events(ask(speaker, pipeline=LOCAL, stream=True).text)
    words = [data["text"] for name, data in told if name == "token"]
    assert len(words) > 3
    assert "".join(words) == SAYS
    data = dict(told)
    assert data["answer"]["answer"] == SAYS
    assert data["citations"]["citations"] == whole["citations"]
    assert data["usage"]["usage"] == whole["usage"]
    assert told[-1][0] == "done"


def test_several_at_once_get_what_each_would_get_alone(speaker: Client) -> None:
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: ask(speaker, pipeline=LOCAL).json()["answer"], range(6)))
    assert found == [SAYS] * 6


def test_a_server_without_a_model_says_what_to_set(home: Path, make_engine: MakeEngine) -> None:
    with TestClient(create_app(make_engine(home, model=ModelConfig(name="")))) as client:
        body = assert_problem(ask(client, pipeline=LOCAL), 422, "invalid_pipeline")
    assert "no language model is set" in body["detail"]


def test_a_stream_whose_listener_has_left_is_not_written_on(
    home: Path, make_engine: MakeEngine, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that says at random, slowed down, with room for a thousand tokens: it would take ten seconds and more.

    No piece is given out meanwhile, at which it would be noticed anyway.
    """
    engine = engine_with(make_engine, home, saved("llama"), max_tokens=1000, temperature=5.0)
    steps, update = threading.Semaphore(0), RowStates.update

    def slow(states: RowStates, key: Any, value: Any, layer: int, *rest: Any) -> Any:
        if layer == 0:
            steps.release()
            time.sleep(0.01)
        return update(states, key, value, layer, *rest)

    monkeypatch.setattr(RowStates, "update", slow)
    monkeypatch.setattr(TextStream, "add", lambda *_: "")
    asked = {"collection": "demo", "question": "What pumps blood?", "pipeline": LOCAL, "stream": True}
    with serving(engine) as running:
        with httpx.stream("POST", f"{running.url}/v1/answer", json=asked, timeout=30) as response:
            assert response.status_code == 200
            assert steps.acquire(timeout=30)
        batch = engine._batch
        assert batch is not None
        end = time.monotonic() + 5
        while batch._inside and time.monotonic() < end:
            time.sleep(0.01)
        assert batch._inside == []
