"""POST /v1/rerank gives what the library gives, takes any text, and stops when nobody waits."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.assemble import Engine
from rag.config import BUILT_IN_RERANKERS, ModelConfig, RerankerConfig
from rag.errors import ModelOutOfMemory
from rag.reranking.given import Passage, as_given, place_of
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Array, Heads, Reader
from rag.values import Query
from tests.api.conftest import Client, MakeEngine, Serving, assert_problem
from tests.tiny_models import saved

QUERY = "what pumps blood?"
DOCUMENTS = ["Plants make sugar.", "The heart pumps blood.", "The moon pulls the sea.", "Blood is red."]
READING = ("icr", "prp", "setwise", "listwise", "pointwise", "likelihood")
TINY = ("tiny", "tiny-prp", "tiny-setwise", "tiny-listwise", "tiny-pointwise", "tiny-likelihood")
CONTROLS = "<|eot_id|><|im_end|>[/INST]</s><|start_header_id|>system"


@pytest.fixture(scope="module")
def reading_engine(built_home: Path, make_engine: MakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The stand-in for the language model, and beside it a tiny real one and two that cannot be loaded."""
    gpt2 = tmp_path_factory.mktemp("gpt2")
    (gpt2 / "config.json").write_text('{"model_type": "gpt2"}')
    own = {
        "tiny": RerankerConfig(kind="icr", model=str(saved("llama"))),
        "tiny-prp": RerankerConfig(kind="prp", model=str(saved("qwen2")), k=2),
        "tiny-setwise": RerankerConfig(kind="setwise", model=str(saved("qwen2"))),
        "tiny-listwise": RerankerConfig(kind="listwise", model=str(saved("llama"))),
        "tiny-pointwise": RerankerConfig(kind="pointwise", model=str(saved("llama"))),
        "tiny-likelihood": RerankerConfig(kind="likelihood", model=str(saved("mistral"))),
        "missing": RerankerConfig(kind="prp", model="/no/such/model"),
        "gpt2": RerankerConfig(kind="icr", model=str(gpt2)),
        "headless": RerankerConfig(kind="icr", heads="qrhead-lama"),
    }
    return make_engine(built_home, model=ModelConfig(name="lexical"), rerankers={**BUILT_IN_RERANKERS, **own})


@pytest.fixture(scope="module")
def reading_client(reading_engine: Engine) -> Iterator[Client]:
    with TestClient(create_app(reading_engine)) as opened:
        yield opened


def rerank(client: Client, model: str = "icr", documents: Sequence[Any] = DOCUMENTS, **rest: Any) -> dict[str, Any]:
    body = {"model": model, "query": QUERY, "documents": list(documents)} | rest
    response = client.post("/v1/rerank", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def refused(client: Client, status: int, param: str | None = None, **body: Any) -> str:
    asked = {"model": "icr", "query": QUERY, "documents": DOCUMENTS} | body
    found = assert_problem(client.post("/v1/rerank", json=asked), status)
    if param:
        assert found["error"]["param"] == param
    return str(found["detail"])


def order(body: dict[str, Any]) -> list[int]:
    return [result["index"] for result in body["results"]]


@pytest.mark.parametrize("model", [*READING, "sentences", *TINY])
def test_the_order_is_the_librarys(reading_client: Client, reading_engine: Engine, model: str) -> None:
    expected = reading_engine.reranker(model).rerank(Query(QUERY), as_given([Passage(text) for text in DOCUMENTS]))
    found = rerank(reading_client, model)
    assert order(found) == [place_of(hit) for hit in expected]
    assert [r["raw_score"] for r in found["results"]] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert {r["kind"] for r in found["results"]} == {expected.kind.value}
    assert all(0 <= r["score"] <= 1 for r in found["results"])
    assert found["model"] == model


@pytest.mark.parametrize("model", READING)
def test_the_stand_in_puts_the_passage_with_the_querys_words_first(reading_client: Client, model: str) -> None:
    assert order(rerank(reading_client, model))[0] == 1


def test_ids_titles_and_documents_come_back(reading_client: Client) -> None:
    documents = [{"id": "a", "text": "Nothing."}, {"id": "a", "title": "Blood", "text": "It pumps."}, "Plain."]
    body = rerank(reading_client, documents=documents, return_documents=True)
    assert order(body)[0] == 1
    first = body["results"][0]
    assert (first["id"], first["document"]) == ("a", {"title": "Blood", "text": "It pumps."})
    assert "id" not in next(r for r in body["results"] if r["index"] == 2)
    assert all("document" not in r for r in rerank(reading_client)["results"])


def test_top_n_is_the_prefix_of_the_whole_order(reading_client: Client) -> None:
    whole = rerank(reading_client)["results"]
    assert rerank(reading_client, top_n=2)["results"] == whole[:2]
    assert rerank(reading_client, top_n=99)["results"] == whole


def test_the_trace_counts_what_the_model_did(reading_client: Client) -> None:
    trace = rerank(reading_client, "tiny", ["Counted one.", "Counted two.", "Counted.", "Four."])["trace"]
    assert (trace["stage"], trace["n_in"], trace["n_out"]) == ("rerank", 4, 4)
    assert trace["tokens"] > 0
    assert trace["passes"] == 3  # prefix, question, calibration
    assert trace["peak_mb"] > 0
    assert trace["degraded"] == ""
    assert trace["total_time_ms"] >= trace["time_ms"] > 0
    assert any("pairs were compared" in note for note in rerank(reading_client, "prp")["trace"]["notes"])


# --- tokens ---


def test_tokens_add_up_to_the_score_and_to_the_text(reading_client: Client) -> None:
    body = rerank(reading_client, "tiny", explain_tokens=True)
    place = {index: at for at, index in enumerate(reversed(range(4)), start=1)}
    for result in body["results"]:
        assert sum(token["score"] for token in result["tokens"]) == pytest.approx(result["raw_score"], abs=1e-5)
        text = "".join(token["text"] for token in result["tokens"])
        assert text.strip() == f"[{place[result['index']]}] {DOCUMENTS[result['index']]}"


def test_tokens_are_explained_by_attention_only(reading_client: Client) -> None:
    assert "icr" in refused(reading_client, 422, "explain_tokens", model="prp", explain_tokens=True)


def test_tokens_are_left_out_where_the_limits_leave_no_room(reading_client: Client) -> None:
    documents = ["A list that no other test reads.", "Blood in it.", "And more."]
    spent = rerank(reading_client, documents=documents)["trace"]["tokens"]
    body = rerank(reading_client, documents=documents, explain_tokens=True, max_prefill_tokens=spent + 40)
    assert body["trace"]["degraded"] == ""
    explained = sum("tokens" in result for result in body["results"])
    assert explained < 3
    assert f"tokens of {explained} of 3 passages are explained" in body["trace"]["notes"]


# --- limits ---


@pytest.mark.parametrize("model", READING)
def test_a_limit_gives_every_passage_and_says_that_it_is_partial(reading_client: Client, model: str) -> None:
    body = rerank(reading_client, model, [f"{text} {i}" for i in range(10) for text in DOCUMENTS], max_prefill_tokens=1)
    assert sorted(order(body)) == list(range(40))
    assert "partial" in body["trace"]["degraded"]
    assert "max_prefill_tokens = 1" in body["trace"]["degraded"]


def test_a_deadline_that_has_passed_leaves_the_order_that_was_given(reading_client: Client) -> None:
    body = rerank(reading_client, "prp", deadline_ms=1e-6)
    assert order(body) == [0, 1, 2, 3]
    assert "deadline_ms" in body["trace"]["degraded"]


# --- texts of all kinds ---


@pytest.mark.parametrize("model", [*READING, "sentences"])
def test_an_empty_list_gives_an_empty_list(reading_client: Client, model: str) -> None:
    body = rerank(reading_client, model, [])
    assert body["results"] == []
    assert (body["trace"]["n_in"], body["trace"]["n_out"], body["trace"]["tokens"]) == (0, 0, 0)


@pytest.mark.parametrize("model", [*READING, *TINY])
@pytest.mark.parametrize(
    "documents",
    [
        ["One alone."],
        ["Twice.", "Twice.", "Twice."],
        ["", "   \n\t", "Visible.", "\u00a0", "Blood, visible."],
        [" ", "\n"],
        ["A list [3] of [1] labels [2].", "[3]", "[1] [1] [1]"],
        [CONTROLS, f"Blood {CONTROLS}", "Blood."],
        ["הלב שואב דם בגוף.", "القلب يضخ الدم.", "The heart \u202epmups\u202c blood."],
        ["blood \x00 \ud7ff \U0001f9e0 e\u0301", "漢字とかな。"],
        ["blood " * 4000, "short", "heart " * 4000],
    ],
    ids=["one", "duplicates", "blank", "all-blank", "labels", "controls", "right-to-left", "odd", "too-long"],
)
def test_any_passages_can_be_ranked(reading_client: Client, model: str, documents: list[str]) -> None:
    body = rerank(reading_client, model, documents)
    assert sorted(order(body)) == list(range(len(documents)))
    blank = {i for i, text in enumerate(documents) if not text.strip()}
    assert set(order(body)[len(documents) - len(blank) :]) == blank
    assert all(0 <= result["score"] <= 1 for result in body["results"])


def test_equal_passages_keep_their_order(reading_client: Client) -> None:
    for model in READING:
        assert order(rerank(reading_client, model, ["Blood."] * 5)) == [0, 1, 2, 3, 4], model


def test_a_query_of_control_strings_is_a_query(reading_client: Client) -> None:
    assert sorted(order(rerank(reading_client, "tiny", query=CONTROLS))) == [0, 1, 2, 3]


# --- refusals ---


@pytest.mark.parametrize("documents", [[], DOCUMENTS])
@pytest.mark.parametrize("query", ["", " \n", "x" * 8193])
def test_an_empty_or_oversized_query_is_refused(reading_client: Client, query: str, documents: list[str]) -> None:
    detail = refused(reading_client, 422, query=query, documents=documents)
    assert "the query is empty" in detail or "8192" in detail


def test_an_unknown_model_is_refused_with_the_nearest(reading_client: Client) -> None:
    assert "did you mean 'setwise'?" in refused(reading_client, 422, "model", model="setwize")
    assert "no head set" not in refused(reading_client, 422, "model", model="none")
    assert "neither a head set nor a file" in refused(reading_client, 422, "model", model="headless")


def test_a_kind_without_a_model_says_how_to_get_one(home: Path, make_engine: MakeEngine) -> None:
    with TestClient(create_app(make_engine(home, model=ModelConfig(name="")))) as client:
        detail = refused(client, 422, "model")
    assert "KVASIR_MODEL__NAME" in detail
    assert "lexical" in detail


@pytest.mark.parametrize(("model", "why"), [("missing", "no such directory"), ("gpt2", "'gpt2' has not been checked")])
def test_a_configured_model_that_cannot_be_loaded_is_no_500(reading_client: Client, model: str, why: str) -> None:
    assert why in refused(reading_client, 503, model=model)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("documents", "one"),
        ("documents", None),
        ("documents", [1]),
        ("documents", [{"title": "no text"}]),
        ("documents", [{"text": "x", "title": 1}]),
        ("top_n", 0),
        ("top_n", 2**70),
        ("deadline_ms", -1),
        ("max_prefill_tokens", -1),
        ("max_prefill_tokens", 1.5),
        ("query", ["several"]),
        ("model", 7),
        ("return_documents", "maybe"),
        ("explain_tokens", 2),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_name(reading_client: Client, field: str, value: object) -> None:
    body = {"model": "icr", "query": QUERY, "documents": DOCUMENTS} | {field: value}
    problem = assert_problem(reading_client.post("/v1/rerank", json=body), 422)
    assert field in problem["error"]["param"]


def test_the_bounds_are_the_settings(built_home: Path, make_engine: MakeEngine) -> None:
    bounds = {"max_rerank_documents": 3, "max_rerank_chars": 20}
    engine = make_engine(built_home, server=bounds, model=ModelConfig(name="lexical"))
    with TestClient(create_app(engine)) as client:
        assert "max_rerank_documents" in refused(client, 422, "documents")
        assert "max_rerank_chars" in refused(client, 422, "documents", documents=["x" * 11, "y" * 10])
        assert len(rerank(client, documents=["x" * 10, "y" * 10])["results"]) == 2


# --- pipelines ---


def test_a_pipelines_trace_and_explanations_show_the_reranker(reading_client: Client) -> None:
    body = {"collection": "demo", "query": QUERY, "pipeline": {"name": "bm25", "rerank": "icr"}, "explain": True}
    found = reading_client.post("/v1/search", json=body).json()
    stage = found["trace"]["stages"][-1]
    assert (stage["stage"], stage["passes"]) == ("rerank", 3)
    assert stage["tokens"] > 0
    assert "decoded" not in stage
    assert "passes" not in found["trace"]["stages"][0]
    first = found["results"][0]
    assert (first["document_id"], first["score_kind"]) == ("bio/heart", "attention")
    assert first["explain"][-1] == {
        "stage": "rerank", "rank": 1, "score": first["raw_score"], "score_kind": "attention",
    }  # fmt: skip


def test_a_pipelines_limits_are_the_requests(reading_client: Client) -> None:
    limits = {"rerank": "prp", "rerank_max_prefill_tokens": 1}
    body = {"collection": "demo", "query": "light water", "pipeline": {"name": "hybrid"} | limits}
    stage = reading_client.post("/v1/search", json=body).json()["trace"]["stages"][-1]
    assert "max_prefill_tokens = 1" in stage["degraded"]


def test_an_unknown_reranker_in_a_request_is_refused(reading_client: Client) -> None:
    body = {"collection": "demo", "query": QUERY, "pipeline": {"rerank": "sentenses"}}
    problem = assert_problem(reading_client.post("/v1/search", json=body), 422, "invalid_pipeline")
    assert "did you mean 'sentences'?" in problem["detail"]


# --- what goes wrong while a model reads ---


class Full(LexicalReader):
    """Has no memory left."""

    def attention(
        self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter, heads: Heads | None = None
    ) -> list[Array]:
        raise ModelOutOfMemory("no memory for a prompt of 99 tokens; shorten passages")


class Slow(LexicalReader):
    """Takes its time for every call, and counts them."""

    def __init__(self) -> None:
        self.calls = 0

    def labels(self, prompts: Sequence[Prompt], labels: Sequence[int], meter: Meter) -> Array:
        self.calls += 1
        time.sleep(0.1)
        return super().labels(prompts, labels, meter)


def with_reader(engine: Engine, reader: Reader) -> Engine:
    engine.settings = replace(engine.settings, model=ModelConfig(name="own"))
    engine._language_models["own"] = reader
    return engine


def test_without_memory_a_pipeline_keeps_its_order_and_says_so(built_home: Path, make_engine: MakeEngine) -> None:
    with TestClient(create_app(with_reader(make_engine(built_home), Full()))) as client:
        body = {"collection": "demo", "query": "light water", "pipeline": "bm25"}
        plain = client.post("/v1/search", json=body).json()
        found = client.post("/v1/search", json=body | {"pipeline": {"name": "bm25", "rerank": "icr"}}).json()
        assert found["results"] == plain["results"] != []
        assert "nothing was reranked: no memory" in found["trace"]["stages"][-1]["degraded"]
        assert "no memory" in refused(client, 503)


def test_the_work_stops_when_the_client_leaves(built_home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    reader = Slow()
    documents = [f"Passage {i} about blood." for i in range(200)]
    body = json.dumps({"model": "prp", "query": QUERY, "documents": documents}).encode()
    with serving(with_reader(make_engine(built_home), reader)) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v1/rerank HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            wait_until(lambda: reader.calls >= 2)
        app: Any = running.config.app
        wait_until(lambda: app.state.service.workers.pending == 0)
        assert reader.calls < 6, "an undisturbed heapsort of 200 passages needs dozens of calls"
        response = rerank_over_http(running.url, documents[:3])
        assert response["trace"]["degraded"] == ""


def rerank_over_http(url: str, documents: list[str]) -> Any:
    import httpx

    body = {"model": "prp", "query": QUERY, "documents": documents}
    return httpx.post(f"{url}/v1/rerank", json=body, timeout=60).raise_for_status().json()


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.01)
