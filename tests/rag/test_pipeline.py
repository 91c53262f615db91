"""A pipeline checks the question before any stage runs, and says when it fell back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from indexes.home import Home
from rag.assemble import Engine
from rag.config import RemoteConfig, settings_from
from rag.encoders import SentenceEncoder
from rag.errors import CollectionNotFound, GeneratorUnavailable, InvalidConfig, InvalidQuery, PipelineNotFound
from rag.generation.extractive import Extractive
from rag.generation.prompt import NOT_FOUND
from rag.generation.remote import Remote
from rag.pipeline import MAX_BUDGET, Pipeline, trace
from rag.values import Answer, Query
from tests.contracts.openai_engine import DONE, OpenAiEngine, completion, piece

QUESTION = Query("How many minutes does the crossing to Vendel take?")


@pytest.fixture(scope="module")
def engine_of_small(small_home: Home, encoder: SentenceEncoder) -> Engine:
    engine = Engine(settings_from({"home": str(small_home.root), "encoder": {"device": "cpu"}}))
    engine._encoder = encoder  # the session's, so that the model is loaded once
    return engine


@pytest.fixture(scope="module")
def pipeline(engine_of_small: Engine) -> Pipeline:
    return engine_of_small.pipeline("small", "hybrid", {"depth": 50})


@pytest.fixture
def engine() -> Iterator[OpenAiEngine]:
    with OpenAiEngine() as running:
        yield running


# --- bounds ---


@pytest.mark.parametrize("k", [0, -1, 10_001, 2**63])
def test_a_k_out_of_range_is_refused(pipeline: Pipeline, k: int) -> None:
    with pytest.raises(InvalidQuery, match=f"k = {k}; k lies between 1 and 10000"):
        pipeline.search(QUESTION, k)
    with pytest.raises(InvalidQuery, match=f"k = {k}"):
        pipeline.search_many([QUESTION], k)


def test_a_k_above_the_depth_says_what_to_set(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidQuery, match=r"k = 51 is above this pipeline's depth of 50; .* or set depth = 51"):
        pipeline.search(QUESTION, 51)
    assert len(pipeline.search(QUESTION, 50)) == 50


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000"])
def test_an_empty_question_is_refused(pipeline: Pipeline, text: str) -> None:
    with pytest.raises(InvalidQuery, match="the query is empty"):
        pipeline.search(Query(text))
    with pytest.raises(InvalidQuery, match="the query is empty"):
        pipeline.answer(Query(text))
    with pytest.raises(InvalidQuery, match="the query is empty"):
        pipeline.search_many([QUESTION, Query(text)])


def test_a_question_of_a_megabyte_is_refused_and_the_longest_allowed_is_answered(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidQuery, match=r"has 1048576 characters; the limit is 8192 \(max_query_chars\)"):
        pipeline.search(Query("a" * 2**20))
    words = " ".join(f"w{n}" for n in range(10_000))[:8192]
    assert len(pipeline.search(Query(words))) == pipeline.k


@pytest.mark.parametrize("budget", [-1, MAX_BUDGET + 1])
def test_a_budget_out_of_range_is_refused(pipeline: Pipeline, budget: int) -> None:
    with pytest.raises(InvalidQuery, match=f"budget = {budget}; a budget lies between 0 and 1000000 tokens"):
        pipeline.answer(QUESTION, budget)


def test_a_budget_of_nothing_finds_nothing_and_says_so(pipeline: Pipeline) -> None:
    answer = pipeline.answer(QUESTION, 0)
    assert (answer.found, answer.text, answer.context.hits, answer.context.tokens) == (False, NOT_FOUND, (), 0)


# --- the whole way ---


def test_an_answer_quotes_and_its_trace_names_every_stage_in_order(engine_of_small: Engine) -> None:
    """Vendel is island 6: 30 + 2 * 6 minutes."""
    answer = engine_of_small.pipeline("small", "ask").answer(QUESTION)
    assert f"The crossing takes {30 + 2 * 6} minutes in calm weather. [" in answer.text
    stages = trace(answer.context.ranking, answer.context.report, answer.report)
    assert [stage.stage for stage in stages] == ["bm25", "dense", "fusion", "rerank", "select", "generate"]
    assert all(stage.seconds >= 0 and not stage.degraded for stage in stages)


def test_the_same_configuration_gives_the_same_pipeline_object(engine_of_small: Engine) -> None:
    assert engine_of_small.pipeline("small", "hybrid") is engine_of_small.pipeline("small", "hybrid", {"k": 10})
    assert engine_of_small.pipeline("small", "hybrid") is not engine_of_small.pipeline("small", "hybrid", {"k": 9})


def test_rerankers_of_several_depths_share_one_model(engine_of_small: Engine) -> None:
    chosen = [
        engine_of_small.pipeline(
            "small", "hybrid", {"rerank": "cross-encoder", "rerank_model": "/m", "rerank_depth": depth}
        )
        for depth in (5, 6)
    ]
    rerankers: list[Any] = [one.retriever.reranker for one in chosen]  # type: ignore[attr-defined]
    assert rerankers[0].model is rerankers[1].model
    assert [reranker.depth for reranker in rerankers] == [5, 6]


def test_unknown_names_are_refused_before_anything_is_loaded(small_home: Home) -> None:
    engine = Engine(settings_from({"home": str(small_home.root)}))
    with pytest.raises(CollectionNotFound, match=r"no collection 'smal' .*there: small"):
        engine.pipeline("smal")
    with pytest.raises(PipelineNotFound, match="did you mean 'hybrid'"):
        engine.pipeline("small", "hybird")
    with pytest.raises(InvalidConfig, match="needs base_url and model"):
        engine.pipeline("small", "ask", {"generate": "remote"})
    assert engine._encoder is None or engine._encoder._loaded is None


# --- fallback ---


def remote_pipeline(pipeline: Pipeline, encoder: SentenceEncoder, config: RemoteConfig) -> Pipeline:
    return replace(pipeline, generator=Remote(config), fallback=Extractive(encoder))


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_engine_that_cannot_be_reached_is_replaced_and_it_is_said(
    pipeline: Pipeline, encoder: SentenceEncoder
) -> None:
    config = RemoteConfig(base_url=f"http://127.0.0.1:{closed_port()}/v1", model="echo")
    answer = remote_pipeline(pipeline, encoder, config).answer(QUESTION)
    assert answer.found
    assert answer.generator == "extractive"
    assert answer.report.degraded.startswith("the configured generator failed: the engine did not")
    assert "did not answer (ConnectError)" in answer.report.degraded


GARBAGE: dict[str, Any] = {
    "an error status": (500, [b'{"error": "out of memory"}'], "answered 500; .*", "out of memory"),
    "a redirect": (302, [b""], "answered 302"),
    "a web page": (200, [b"<html>It works!</html>"], "no stream of chat completions"),
    "nothing": (200, [], "no stream of chat completions"),
    "an answer that is not streamed": (200, [b'{"choices": [{"message": {"content": "x"}}]}'], "no stream"),
    "broken JSON": (200, [b"data: {oops\n\n"], "sent what is no chat completion; ", "oops"),
    "JSON of another kind": (200, [b"data: [1, 2]\n\n"], "sent what is no chat completion"),
    "a number": (200, [b"data: 5\n\n"], "sent what is no chat completion"),
    "an error in the stream": (
        200,
        [b'data: {"error": {"message": "overloaded"}}\n\n'],
        "broke off with an error",
        "overloaded",
    ),
    "bytes that are no text": (200, [b"\xff\xfe\x00data: \xff\n\n"], "no stream of chat completions"),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_before_the_first_token_is_replaced_and_it_is_said(
    pipeline: Pipeline, encoder: SentenceEncoder, engine: OpenAiEngine, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the engine says itself is for the log alone."""
    engine.status, engine.lines, message, *own = GARBAGE[what]
    remote = remote_pipeline(pipeline, encoder, engine.config)
    answer = remote.answer(QUESTION)
    assert (answer.generator, answer.found) == ("extractive", True)
    with pytest.raises(GeneratorUnavailable, match=message) as raised:
        replace(remote, fallback=None).answer(QUESTION)
    for words in own:
        assert words in caplog.text
        assert words not in f"{raised.value}{answer.report.degraded}"


@pytest.mark.parametrize("address", ["me:p4ss@127.0.0.1:{port}", "me:p4ss@127.0.0.1:99999", "me:p4ss/word@127.0.0.1"])
def test_a_password_in_the_engine_s_address_is_told_nowhere(
    pipeline: Pipeline, encoder: SentenceEncoder, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    config = RemoteConfig(base_url=f"http://{address.format(port=closed_port())}/v1", model="echo")
    remote = remote_pipeline(pipeline, encoder, config)
    with pytest.raises(GeneratorUnavailable) as raised:
        replace(remote, fallback=None).answer(QUESTION)
    assert "p4ss" not in f"{raised.value}{remote.answer(QUESTION).report.degraded}{caplog.text}"


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:99999/v1", "http://"])
def test_an_address_that_is_none_is_an_engine_that_does_not_answer(
    pipeline: Pipeline, encoder: SentenceEncoder, url: str
) -> None:
    answer = remote_pipeline(pipeline, encoder, RemoteConfig(base_url=url, model="echo")).answer(QUESTION)
    assert (answer.generator, bool(answer.report.degraded)) == ("extractive", True)


def test_a_key_that_no_header_can_hold_is_an_engine_that_does_not_answer(
    pipeline: Pipeline, encoder: SentenceEncoder, engine: OpenAiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVASIR_NO_KEY", "clé\n")
    assert remote_pipeline(pipeline, encoder, engine.config).answer(QUESTION).generator == "extractive"


@pytest.mark.parametrize("rest", [[b"data: {oops\n\n"], [b'data: {"error": "gone"}\n\n'], []])
def test_once_tokens_began_a_failure_is_told_and_nothing_else_is_put_behind_them(
    pipeline: Pipeline, encoder: SentenceEncoder, engine: OpenAiEngine, rest: list[bytes]
) -> None:
    """The empty rest is a connection that ends before the engine said that it is done."""
    engine.lines = [piece("It takes "), *rest]
    remote = remote_pipeline(pipeline, encoder, engine.config)
    stream = remote.stream(QUESTION, remote.context(QUESTION))
    assert next(stream) == "It takes "
    with pytest.raises(GeneratorUnavailable):
        list(stream)


def test_a_whole_answer_of_the_engine_is_not_flagged(
    pipeline: Pipeline, encoder: SentenceEncoder, engine: OpenAiEngine
) -> None:
    engine.lines = completion("42 minutes", " [1] [99].")
    answer = remote_pipeline(pipeline, encoder, engine.config).answer(QUESTION)
    assert (answer.text, answer.generator, answer.report.degraded) == ("42 minutes [1].", "echo", "")
    assert answer.notes == ("citation [99] names no source and was removed",)


def test_an_answer_cut_at_max_tokens_is_noted(
    pipeline: Pipeline, encoder: SentenceEncoder, engine: OpenAiEngine
) -> None:
    engine.lines = [piece("42 min"), piece("", "length"), DONE]
    answer = remote_pipeline(pipeline, encoder, engine.config).answer(QUESTION)
    assert answer.notes == ("the engine stopped early (length); max_tokens is 512",)


def test_the_fallback_s_stream_ends_with_one_answer(pipeline: Pipeline, encoder: SentenceEncoder) -> None:
    remote = remote_pipeline(pipeline, encoder, RemoteConfig(base_url="http://127.0.0.1:1/v1", model="echo"))
    *pieces, last = remote.stream(QUESTION, remote.context(QUESTION))
    assert isinstance(last, Answer)
    assert "".join(map(str, pieces)) == last.text
