"""POST /v1/answer: the library's answer as JSON, and the same as server-sent events."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.assemble import Engine
from rag.config import PipelineConfig, RemoteConfig
from rag.errors import GeneratorUnavailable
from rag.protocols import Generator
from rag.values import Answer, Context, Query
from tests.api.conftest import Client, MakeEngine, Serving, assert_problem

QUESTION = "What pumps blood through the body?"


def ask(client: Client, **rest: Any) -> Any:
    return client.post("/v1/answer", json={"collection": "demo", "question": QUESTION} | rest)


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.strip().split("\n\n"):
        if block:
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_an_answer_is_the_librarys(client: Client, engine: Engine) -> None:
    expected = engine.pipeline("demo", "ask").answer(Query(QUESTION))
    body = ask(client).json()
    assert (body["answer"], body["found"]) == (expected.text, True)
    assert "The heart pumps blood" in body["answer"]
    assert body["generator"] == "extractive"
    assert body["usage"] == {
        "prompt_tokens": expected.usage.prompt_tokens,
        "completion_tokens": expected.usage.completion_tokens,
    }
    assert [source["chunk_id"] for source in body["sources"]] == [chunk.id for chunk in expected.context.chunks]
    assert [source["number"] for source in body["sources"]] == list(range(1, len(body["sources"]) + 1))
    assert (body["degraded"], body["notes"]) == ([], [])


def test_a_citation_points_at_the_quoted_words(client: Client) -> None:
    body = ask(client).json()
    assert body["citations"]
    for citation in body["citations"]:
        source = body["sources"][citation["number"] - 1]
        assert (citation["chunk_id"], citation["document_id"]) == (source["chunk_id"], source["document_id"])
        quoted = source["text"][citation["start"] - source["start"] : citation["end"] - source["start"]]
        assert f"{quoted} [{citation['number']}]" in body["answer"]


def test_the_trace_ends_with_select_and_generate(client: Client) -> None:
    trace = ask(client).json()["trace"]
    assert trace["pipeline"] == "ask"
    assert [stage["stage"] for stage in trace["stages"]] == ["bm25", "dense", "fusion", "rerank", "select", "generate"]


def test_a_question_without_an_answer_is_not_found(client: Client) -> None:
    body = ask(client, question="Who won the chess tournament in Reykjavik?").json()
    assert (body["found"], body["citations"]) == (False, [])


def test_a_budget_of_nothing_gives_no_sources(client: Client) -> None:
    body = ask(client, budget=0).json()
    assert (body["sources"], body["found"]) == ([], False)


def test_budget_and_k_limit_the_sources(client: Client) -> None:
    assert len(ask(client, k=2, selector="budget").json()["sources"]) == 2
    assert 1 <= len(ask(client, k=2).json()["sources"]) <= 2
    few = ask(client, budget=60, selector="budget").json()
    assert 0 < len(few["sources"]) < len(ask(client, selector="budget").json()["sources"])


def test_explain_names_the_stages_of_each_source(client: Client) -> None:
    for source in ask(client, explain=True).json()["sources"]:
        assert source["explain"][-1]["stage"] == "rerank"
        assert source["explain"][-1]["score"] == source["raw_score"]


@pytest.mark.parametrize("selector", ["search", "mcts", "beam", "greedy", "local", "exact"])
def test_a_searching_selector_says_why_its_sources_are_these(client: Client, selector: str) -> None:
    body = ask(client, selector=selector, budget=60, explain=True).json()
    said = body["selection"]
    assert said["selector"] == selector
    assert body["trace"]["stages"][-2]["notes"][0].startswith(f"{selector}: utility")
    assert sorted(w["chunk_id"] for w in said["chosen"]) == sorted(s["chunk_id"] for s in body["sources"])
    assert said["best_sets"][-1]["utility"] == pytest.approx(said["utility"])
    assert sorted(said["best_sets"][-1]["chunk_ids"]) == sorted(s["chunk_id"] for s in body["sources"])
    assert sum(said["chosen"][0]["terms"].values()) == pytest.approx(said["chosen"][0]["gain"]) != 0
    assert said["rejected"]
    assert all(weighed["by"] for weighed in said["rejected"])
    assert bool(said["tree"]) == (selector in ("search", "mcts"))


def test_selection_is_told_only_where_it_is_asked_for(client: Client) -> None:
    assert "selection" not in ask(client, selector="search").json()
    assert ask(client, explain=True).json()["selection"]["selector"] == "search"
    by_rank = ask(client, selector="budget", explain=True).json()["selection"]
    assert (by_rank["selector"], by_rank["end"], by_rank["tree"]) == ("budget", "fill", [])


def test_a_selector_goes_with_a_pipeline_by_name_or_by_keys(client: Client) -> None:
    for pipeline in ("bm25", {"name": "bm25", "order": "document"}, {"order": "document"}):
        assert ask(client, pipeline=pipeline, selector="mcts", explain=True).json()["selection"]["selector"] == "mcts"
    assert_problem(ask(client, selector="best"), 422, "invalid_pipeline")


@pytest.mark.parametrize(
    "wrong", [{"budget": -1}, {"budget": 10**9}, {"k": 0}, {"question": " "}, {"question": "x" * 9000}]
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_asked_is_refused_before_any_event(client: Client, wrong: dict[str, Any], stream: bool) -> None:
    assert_problem(ask(client, stream=stream, **wrong), 422, "invalid_query")


def test_a_stream_tells_the_same_in_order(client: Client) -> None:
    whole = ask(client, explain=True).json()
    response = ask(client, stream=True, explain=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-request-id"]
    told = events(response.text)
    names = [name for name, _ in told]
    tokens = names.count("token")
    assert tokens > 1
    assert names == ["sources", "selection", *["token"] * tokens, "citations", "answer", "usage", "done"]
    data = dict(told)
    assert "".join(piece["text"] for name, piece in told if name == "token") == whole["answer"]
    assert data["sources"]["sources"] == whole["sources"]
    assert data["selection"]["selection"] == whole["selection"]
    assert data["citations"]["citations"] == whole["citations"]
    for key in ("answer", "found", "generator", "degraded", "notes"):
        assert data["answer"][key] == whole[key]
    assert data["usage"]["usage"] == whole["usage"]
    assert [s["stage"] for s in data["usage"]["trace"]["stages"]] == [s["stage"] for s in whole["trace"]["stages"]]


def test_an_unreachable_engine_falls_back_and_says_so(home: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(home, remote=RemoteConfig(base_url="http://127.0.0.1:9/v1", model="m", timeout=2.0))
    with TestClient(create_app(engine)) as client:
        body = ask(client, pipeline={"name": "ask", "generate": "remote"}).json()
        told = dict(events(ask(client, stream=True, pipeline={"name": "ask", "generate": "remote"}).text))
    assert "The heart pumps blood" in body["answer"]
    assert body["generator"] == "extractive"
    assert len(body["degraded"]) == 1
    assert "did not answer" in body["degraded"][0]
    assert told["answer"]["degraded"] == body["degraded"]


class Talker(Generator):
    """Says a word, waits to be let on, and then breaks off or goes on for ever."""

    go_on = threading.Event()
    breaks = True
    left = threading.Event()

    def stream(self, query: Query, context: Context) -> Iterator[str | Answer]:
        try:
            yield "well "
            self.go_on.wait(30)
            if self.breaks:
                raise GeneratorUnavailable("the engine broke off")
            while True:
                yield "and "
                time.sleep(0.01)
        finally:
            self.left.set()


class TalkerEngine(Engine):
    def _generator(self, chosen: PipelineConfig) -> Generator:
        return Talker()


def streamed(url: str) -> Any:
    body = {"collection": "demo", "question": QUESTION, "stream": True}
    return httpx.stream("POST", f"{url}/v1/answer", json=body, timeout=60)


def test_an_error_in_mid_stream_is_an_error_event(home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    Talker.go_on, Talker.breaks, Talker.left = threading.Event(), True, threading.Event()
    with serving(make_engine(home, kind=TalkerEngine)) as running, streamed(running.url) as response:
        lines = response.iter_lines()
        assert next(line for line in lines if "token" in line) == "event: token"
        Talker.go_on.set()  # the first word came before the generator was let on: nothing is held back
        told = events("\n".join(lines).split("\n", 2)[2])
    assert [name for name, _ in told] == ["error"]
    problem = told[0][1]
    assert (problem["status"], problem["error"]["code"]) == (502, "generator_unavailable")


def test_a_client_that_leaves_stops_the_work(home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    Talker.go_on, Talker.breaks, Talker.left = threading.Event(), False, threading.Event()
    Talker.go_on.set()
    engine = make_engine(home, kind=TalkerEngine, server={"workers": 1})
    with serving(engine) as running:
        with streamed(running.url) as response:
            next(line for line in response.iter_lines() if "token" in line)
            assert not Talker.left.is_set()
        assert Talker.left.wait(10), "the generator still talks to nobody"
        answer = httpx.post(f"{running.url}/v1/search", json={"collection": "demo", "query": "light"}, timeout=30)
        assert answer.status_code == 200  # the one worker is free again


def test_a_question_may_be_called_a_query_as_in_searches(client: Client) -> None:
    body = ask(client).json()
    asked = {"collection": "demo", "query": QUESTION}
    assert client.post("/v1/answer", json=asked).json()["answer"] == body["answer"]
    both = client.post("/v1/answer", json=asked | {"question": "What else?"})
    assert "send one of them" in assert_problem(both, 422, "invalid_query")["detail"]
    assert_problem(client.post("/v1/answer", json={"collection": "demo"}), 422, "invalid_query")
