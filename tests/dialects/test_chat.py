"""/v1/chat/completions answers OpenAI's own client from a collection, whole and as a stream."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.dialects.chat_question import question
from api.dialects.chat_schemas import ChatMessage, ChatPart
from api.errors import InvalidBody
from rag.assemble import Engine
from rag.config import BUILT_IN, GenerationConfig, ModelConfig, PipelineConfig
from rag.dialects_table import DialectsConfig
from rag.errors import GeneratorUnavailable
from rag.protocols import Generator
from rag.values import Answer, Context, Query
from tests.api.conftest import Client, MakeEngine, Serving, assert_problem
from tests.speaking_models import saved_speaking
from tests.tiny_models import one_thread

__all__ = ["one_thread"]
ASKED = "What pumps blood through the body?"
SAYS = "The heart pumps blood [1]."


def messages(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


def ask(client: Client, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": "kvasir/demo", "messages": messages(ASKED)} | body)


def frames(text: str) -> list[Any]:
    """The data of all events, the last of which is [DONE]."""
    blocks = [block for block in text.split("\n\n") if block]
    assert all(block.startswith("data: ") for block in blocks)
    assert blocks[-1] == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]


@pytest.fixture(scope="module")
def speaking(built_home: Path, make_engine: MakeEngine) -> Engine:
    """An engine whose pipeline ``local`` says SAYS by a real model."""
    model = ModelConfig(name=str(saved_speaking(SAYS)), device="cpu", dtype="float32")
    pipelines = {**BUILT_IN, "local": PipelineConfig(rerank="sentences", generate="local")}
    return make_engine(built_home, model=model, pipelines=pipelines)


@pytest.fixture(scope="module")
def local(speaking: Engine) -> Iterator[Client]:
    with TestClient(create_app(speaking)) as opened:
        yield opened


@pytest.fixture(scope="module")
def own(speaking: Engine, serving: Serving) -> Iterator[openai.OpenAI]:
    """OpenAI's client at a real server."""
    with serving(speaking) as running:
        yield openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0)


# --- whole ---


def test_the_answer_is_that_of_v1_answer(speaks: Client) -> None:
    body = ask(speaks).json()
    same = speaks.post("/v1/answer", json={"collection": "demo", "question": ASKED}).json()
    choice = body["choices"][0]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"] == {"role": "assistant", "content": same["answer"]}
    for key in ("sources", "citations", "found", "generator", "degraded", "notes"):
        assert body[key] == same[key]
    assert body["citations"]
    assert (body["object"], body["model"]) == ("chat.completion", "kvasir/demo")
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] == same["usage"]["prompt_tokens"]


def test_the_model_names_collection_and_pipeline(speaks: Client) -> None:
    assert ask(speaks).json()["trace"]["pipeline"] == "ask"
    assert ask(speaks, model="kvasir/demo/bm25").json()["trace"]["pipeline"] == "bm25"
    assert_problem(ask(speaks, model="kvasir/demo/nothing"), 404, "pipeline_not_found")
    assert_problem(ask(speaks, model="kvasir/nowhere"), 404, "collection_not_found")
    for unknown in ("gpt-4o", "kvasir/", "demo", ""):
        assert_problem(ask(speaks, model=unknown), 404, "model_not_found")


def test_k_budget_and_filter_are_those_of_v1_answer(speaks: Client) -> None:
    stages = {stage["stage"]: stage for stage in ask(speaks, k=2).json()["trace"]["stages"]}
    assert stages["select"]["n_in"] == 2
    assert ask(speaks, budget=0).json()["found"] is False
    light = messages("How does light travel?")
    only = ask(speaks, messages=light, filter={"topic": "physics"}).json()["sources"]
    assert {source["document_id"] for source in only} == {"phys/light"}


def test_a_limit_of_tokens_and_a_stop_string_end_the_answer(local: Client) -> None:
    whole = ask(local, model="kvasir/demo/local").json()
    assert whole["choices"][0] == {
        "index": 0, "message": {"role": "assistant", "content": SAYS}, "finish_reason": "stop", "logprobs": None,
    }  # fmt: skip
    cut = ask(local, model="kvasir/demo/local", max_tokens=2).json()
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 2
    assert SAYS.startswith(cut["choices"][0]["message"]["content"])
    assert ask(local, model="kvasir/demo/local", max_completion_tokens=2).json()["usage"] == cut["usage"]
    stopped = ask(local, model="kvasir/demo/local", stop=[" blood"]).json()["choices"][0]
    assert (stopped["message"]["content"], stopped["finish_reason"]) == ("The heart pumps", "stop")


def test_a_request_cannot_raise_the_servers_limit(built_home: Path, make_engine: MakeEngine, speaking: Engine) -> None:
    engine = make_engine(
        built_home,
        model=speaking.settings.model,
        pipelines=speaking.settings.pipelines,
        generation=GenerationConfig(max_tokens=3),
    )
    with TestClient(create_app(engine)) as client:
        found = ask(client, model="kvasir/demo/local", max_tokens=1000, temperature=0.0, seed=-1, top_p=0.5).json()
    assert (found["usage"]["completion_tokens"], found["choices"][0]["finish_reason"]) == (3, "length")
    assert not [note for note in found["notes"] if "ignored" in note]


def test_what_a_generator_has_not_is_told(speaks: Client) -> None:
    notes = ask(speaks, temperature=0.7, stop="x", user="u").json()["notes"]
    assert [note.split()[0] for note in notes] == ["temperature", "stop"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": [{"role": "system", "content": "Be brief."}]},
        {"messages": messages(" ")},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": messages("x" * 9000)},
        {"n": 2},
        {"stop": ""},
        {"max_tokens": 0},
        {"temperature": 3},
        {"k": 0},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_asked_is_refused_before_any_event(speaks: Client, wrong: dict[str, Any], stream: bool) -> None:
    assert_problem(ask(speaks, stream=stream, **wrong), 422)


# --- conversations ---


def turns(*texts: str) -> list[ChatMessage]:
    """Questions with an answer between any two."""
    said = [[ChatMessage("user", text), ChatMessage("assistant", "So it is.")] for text in texts]
    return [ChatMessage("system", "Be brief."), *[one for pair in said for one in pair][:-1]]


def test_the_last_message_of_the_user_is_the_question() -> None:
    assert question(turns("one", "two", "three"), 0, 100) == "three"
    assert question([*turns("one", "two"), ChatMessage("assistant", "It")], 0, 100) == "two"
    assert question([ChatMessage("user", [ChatPart("text", "a"), ChatPart("text", "b")])], 0, 100) == "a\nb"


def test_earlier_questions_stand_above_it_within_the_bounds() -> None:
    assert question(turns("one", "two", "three"), 1, 100) == "two\nthree"
    assert question(turns("one", "two", "three"), 9, 100) == "one\ntwo\nthree"
    assert question(turns("one", "two", "three"), 9, len("two\nthree")) == "two\nthree"
    assert question(turns("one", "two", "three"), 9, len("two\nthree") - 1) == "three"
    with pytest.raises(InvalidBody, match="no message of the user"):
        question([ChatMessage("assistant", "x")], 1, 100)


def test_a_follow_up_is_found_with_the_question_before_it(built_home: Path, make_engine: MakeEngine) -> None:
    asked = messages("What pumps blood through the body?", "How often does it beat?")
    with TestClient(create_app(make_engine(built_home, dialects=DialectsConfig(chat_turns=1)))) as client:
        assert ask(client, messages=asked).json()["sources"][0]["document_id"] == "bio/heart"


# --- streams ---


def test_a_stream_tells_the_same(speaks: Client) -> None:
    whole = ask(speaks).json()
    response = ask(speaks, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    told = frames(response.text)
    assert {(one["object"], one["model"], one["id"]) for one in told} == {
        ("chat.completion.chunk", "kvasir/demo", told[0]["id"])
    }
    deltas = [one["choices"][0]["delta"] for one in told]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[-1] == {}
    assert all(set(delta) == {"content"} for delta in deltas[1:-1])
    assert len(deltas) > 4
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert [one["choices"][0]["finish_reason"] for one in told] == [None] * (len(told) - 1) + ["stop"]
    assert told[0]["sources"] == whole["sources"]
    assert told[-1]["citations"] == whole["citations"] != []
    assert not any("citations" in one for one in told[:-1])
    assert not any("usage" in one for one in told), "nobody asked for it"


def test_usage_is_a_last_chunk_without_choices_where_it_is_asked_for(speaks: Client) -> None:
    *_, last = frames(ask(speaks, stream=True, stream_options={"include_usage": True}).text)
    assert last["choices"] == []
    assert last["usage"] == ask(speaks).json()["usage"]


def test_openais_client_reads_answers_and_streams(own: openai.OpenAI) -> None:
    chat: Any = own.chat.completions
    for model in ("kvasir/demo", "kvasir/demo/local"):
        whole = chat.create(model=model, messages=messages(ASKED))
        text = whole.choices[0].message.content
        assert "heart pumps blood" in text
        assert whole.citations[0]["number"] == 1
        options = {"include_usage": True}
        chunks = list(chat.create(model=model, messages=messages(ASKED), stream=True, stream_options=options))
        pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
        assert "".join(pieces) == text
        assert sum(map(bool, pieces)) > 3
        assert chunks[-1].usage == whole.usage
        assert chunks[-2].choices[0].finish_reason == "stop"
    assert "kvasir/demo/local" in [model.id for model in own.models.list()]
    assert own.models.retrieve("kvasir/demo").id == "kvasir/demo"
    with pytest.raises(openai.NotFoundError, match="answers questions"):
        chat.create(model="gpt-4o", messages=messages(ASKED))


def test_the_readmes_lines_run(own: openai.OpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = readme.split("## Drop-in")[1].split("```python\n")[1].split("```")[0]
    here = lines.replace("http://127.0.0.1:8080/v1", str(own.base_url)).replace("python-docs", "demo")
    exec(here.replace("How do I parse a date from a string?", ASKED), {})
    assert "The heart pumps blood" in capsys.readouterr().out


# --- what goes wrong in mid-stream ---


class Talker(Generator):
    """Says a word, waits to be let on, and then breaks off or goes on for ever."""

    breaks = True
    go_on = threading.Event()
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


def test_an_error_in_mid_stream_is_one_that_openais_client_raises(
    built_home: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    Talker.breaks, Talker.go_on, Talker.left = True, threading.Event(), threading.Event()
    with serving(make_engine(built_home, kind=TalkerEngine)) as running:
        client: Any = openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0)
        stream = client.chat.completions.create(model="kvasir/demo", messages=messages(ASKED), stream=True)
        assert next(stream).choices[0].delta.role == "assistant"
        assert next(stream).choices[0].delta.content == "well "
        Talker.go_on.set()
        with pytest.raises(openai.APIError, match="the engine broke off"):
            next(stream)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_work(
    built_home: Path, make_engine: MakeEngine, serving: Serving, stream: bool
) -> None:
    Talker.breaks, Talker.go_on, Talker.left = False, threading.Event(), threading.Event()
    Talker.go_on.set()
    body = {"model": "kvasir/demo", "messages": messages(ASKED), "stream": stream}
    with serving(make_engine(built_home, kind=TalkerEngine, server={"workers": 1})) as running:
        url = f"{running.url}/v1/chat/completions"
        with httpx.Client(timeout=1 if not stream else 30) as client:
            if stream:
                with client.stream("POST", url, json=body) as response:
                    next(line for line in response.iter_lines() if "well" in line)
                    assert not Talker.left.is_set()
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.post(url, json=body)
        assert Talker.left.wait(10), "the generator still talks to nobody"
        search = {"collection": "demo", "query": "light"}
        assert httpx.post(f"{running.url}/v1/search", json=search, timeout=30).status_code == 200
