"""The rerank paths answer each server's clients in that server's form, and take what those clients really send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.assemble import Engine
from rag.config import BUILT_IN_RERANKERS, CacheConfig, ModelConfig, RerankerConfig
from rag.dialects_table import DialectsConfig
from rag.reranking.given import Passage, as_given, place_of
from rag.values import Query
from tests.api.conftest import Client, MakeEngine, assert_problem
from tests.tiny_models import one_thread, saved

__all__ = ["one_thread"]
QUERY = "what pumps blood?"
DOCUMENTS = ["Plants make sugar.", "The heart pumps blood.", "The moon pulls the sea.", "Blood is red."]
PATHS = ("/rerank", "/v1/rerank", "/v2/rerank")
KINDS = ("sentences", "icr", "prp", "setwise", "listwise", "pointwise", "likelihood")


def post(client: Client, path: str, **body: Any) -> Any:
    response = client.post(path, json={"query": QUERY} | body)
    assert response.status_code == 200, response.text
    return response.json()


def order(results: list[dict[str, Any]]) -> list[int]:
    return [result["index"] for result in results]


def tei_error(response: Any, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error", "error_type"}
    assert body["error_type"] == kind
    return str(body["error"])


# --- one object for all who send documents ---


@pytest.mark.parametrize("path", PATHS)
def test_every_path_gives_the_librarys_order_and_scores(speaks: Client, dialect_engine: Engine, path: str) -> None:
    for name in KINDS:
        ranking = dialect_engine.reranker(name).rerank(Query(QUERY), as_given([Passage(one) for one in DOCUMENTS]))
        body = post(speaks, path, documents=DOCUMENTS, model=name)
        assert order(body["results"]) == [place_of(hit) for hit in ranking]
        scores = [result["relevance_score"] for result in body["results"]]
        assert scores == pytest.approx([ranking.relevance(hit) for hit in ranking], abs=1e-6)
        assert [r["raw_score"] for r in body["results"]] == pytest.approx([hit.score for hit in ranking], abs=1e-6)
        assert all(0 <= score <= 1 for score in scores)
        assert scores == sorted(scores, reverse=True)
        assert body["score_kind"] == ranking.kind.value
        assert body["model"] == name


def test_the_object_has_what_each_client_reads(speaks: Client) -> None:
    body = post(speaks, "/v2/rerank", documents=DOCUMENTS, model="icr", top_n=2)
    assert body["object"] == "rerank"  # Infinity
    assert body["id"]
    assert body["created"] > 1_700_000_000
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] > 0  # Jina, vLLM, Voyage
    assert body["meta"]["api_version"] == {"version": "2"}  # Cohere
    assert body["meta"]["billed_units"] == {"search_units": 1}
    assert body["meta"]["tokens"]["input_tokens"] == body["usage"]["total_tokens"]
    assert "data" not in body
    assert "warnings" not in body["meta"]
    assert post(speaks, "/v1/rerank", documents=DOCUMENTS)["meta"]["api_version"] == {"version": "1"}
    assert post(speaks, "/rerank", documents=["x"] * 101)["meta"]["billed_units"] == {"search_units": 2}


def test_voyages_clients_find_their_results_under_data(speaks: Client) -> None:
    body = post(speaks, "/v1/rerank", documents=DOCUMENTS, model="icr", top_k=2, truncation=True)
    assert body["data"] == body["results"]
    assert len(body["data"]) == 2


def test_documents_come_back_as_objects_where_they_are_asked_for(speaks: Client) -> None:
    for path in PATHS:
        first = post(speaks, path, documents=DOCUMENTS, return_documents=True)["results"][0]
        assert first["document"]["text"] == DOCUMENTS[first["index"]]
        assert "document" not in post(speaks, path, documents=DOCUMENTS, return_documents=False)["results"][0]
    assert "document" in post(speaks, "/rerank", documents=DOCUMENTS)["results"][0]  # vLLM gives them always
    assert "document" not in post(speaks, "/v1/rerank", documents=DOCUMENTS)["results"][0]


def test_a_score_does_not_depend_on_the_other_documents(speaks: Client) -> None:
    for model in ("sentences", "pointwise", "likelihood"):
        alone = post(speaks, "/v2/rerank", documents=[DOCUMENTS[1]], model=model)["results"][0]["relevance_score"]
        beside = post(speaks, "/v2/rerank", documents=DOCUMENTS, model=model)["results"]
        assert next(r for r in beside if r["index"] == 1)["relevance_score"] == pytest.approx(alone, abs=1e-5)
        assert alone > 0


def test_raw_scores_are_the_rerankers_own(speaks: Client) -> None:
    body = post(speaks, "/rerank", documents=DOCUMENTS, model="icr", raw_scores=True)
    assert [r["relevance_score"] for r in body["results"]] == [r["raw_score"] for r in body["results"]]
    assert [r["score"] for r in body["results"]] != [r["raw_score"] for r in body["results"]]


# --- leniencies ---


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens_per_doc": None, "top_n": None, "return_documents": None, "model": None, "deadline_ms": None},
        {"top_n": 10, "max_tokens_per_doc": 4096},
        {"top_n": "10"},
        {"return_documents": "false", "return_len": "true", "user": "u", "truncation": True, "priority": 0},
        {"relevant_spans": {"mode": "disabled"}, "max_chunks_per_doc": 3},
        {"rank_fields": []},
    ],
    ids=["nulls", "more than there are", "a number as a string", "strings and unknown", "cohere 7", "no fields"],
)
@pytest.mark.parametrize("path", PATHS)
def test_what_real_clients_send_is_taken(speaks: Client, path: str, more: dict[str, Any]) -> None:
    plain = order(post(speaks, path, documents=DOCUMENTS)["results"])
    body = post(speaks, path, documents=DOCUMENTS, **more)
    assert order(body["results"]) == plain
    assert len(plain) == len(DOCUMENTS)


def test_a_truth_value_may_be_a_string(speaks: Client) -> None:
    for said, there in (("true", True), ("True", True), ("false", False), (1, True), (0, False)):
        found = post(speaks, "/v1/rerank", documents=DOCUMENTS, return_documents=said)["results"]
        assert ("document" in found[0]) == there, said


def test_a_thousand_documents_come_back_whole(speaks: Client) -> None:
    documents = [f"{DOCUMENTS[i % 4]} {i}" for i in range(1000)]
    body = post(speaks, "/v2/rerank", documents=documents, model="pointwise")
    assert sorted(order(body["results"])) == list(range(1000))
    assert body["meta"]["billed_units"] == {"search_units": 10}
    best = post(speaks, "/v2/rerank", documents=documents, model="pointwise", top_n=7)["results"]
    assert best == body["results"][:7]


def test_rank_fields_say_what_is_read_and_in_which_order(speaks: Client) -> None:
    documents = [{"body": "It makes sugar.", "text": "The heart pumps blood."}, {"body": "It pumps blood.", "n": 7}]
    body = post(
        speaks, "/v1/rerank", documents=documents, model="icr", rank_fields=["n", "body"], return_documents=True
    )
    assert order(body["results"])[0] == 1
    assert body["results"][0]["document"]["text"] == "7\nIt pumps blood."
    refused = speaks.post("/v1/rerank", json={"query": QUERY, "documents": documents, "rank_fields": ["n"]})
    assert assert_problem(refused, 422)["error"]["param"] == "documents[0]"


def test_max_tokens_per_doc_hides_what_is_behind(speaks: Client) -> None:
    documents = ["Plants make sugar.", "Plants make sugar. The heart pumps blood."]
    whole = post(speaks, "/v2/rerank", documents=documents, model="icr")
    assert order(whole["results"]) == [1, 0]
    short = post(speaks, "/v2/rerank", documents=documents, model="icr", max_tokens_per_doc=4, return_documents=True)
    assert order(short["results"]) == [0, 1]
    scores = [result["raw_score"] for result in short["results"]]
    assert scores[1] == pytest.approx(scores[0]), "both are now the same four tokens"
    assert short["results"][1]["document"]["text"] == documents[1]
    assert short["meta"]["warnings"] == ["1 documents were cut to 4 tokens"]


def test_a_misspelt_field_is_ignored_and_named(speaks: Client) -> None:
    body = post(speaks, "/v1/rerank", documents=DOCUMENTS, retrun_documents=True)
    assert "did you mean 'return_documents'?" in body["meta"]["warnings"][0]


def test_a_limit_is_told_in_the_warnings(speaks: Client) -> None:
    body = post(speaks, "/v2/rerank", documents=DOCUMENTS, model="prp", deadline_ms=1e-6)
    assert any("deadline_ms" in warning for warning in body["meta"]["warnings"])
    assert len(body["results"]) == len(DOCUMENTS)


# --- models ---


def test_a_configured_reranker_is_chosen_by_its_name(built_home: Any, make_engine: MakeEngine) -> None:
    own = {"mine": RerankerConfig(kind="icr", model=str(saved("llama")))}
    engine = make_engine(built_home, rerankers={**BUILT_IN_RERANKERS, **own})
    with TestClient(create_app(engine)) as client:
        body = post(client, "/v2/rerank", documents=DOCUMENTS, model="mine")
        assert (body["model"], body["score_kind"]) == ("mine", "attention")
        assert body["usage"]["total_tokens"] > 0


def test_cached_states_are_counted_as_coheres_cached_tokens(home: Path, make_engine: MakeEngine) -> None:
    model = ModelConfig(name=str(saved("llama")), device="cpu", dtype="float32")
    engine = make_engine(home, model=model, cache=CacheConfig(mode="independent", scheme="fp32"))
    with TestClient(create_app(engine)) as client:
        first, second = (post(client, "/v2/rerank", documents=DOCUMENTS, model="icr") for _ in range(2))
    assert first["results"] == second["results"]
    trace, meta = second["trace"], second["meta"]
    assert meta["cached_tokens"] == trace["reused"] > 0
    assert second["usage"]["prompt_tokens"] == meta["tokens"]["input_tokens"] == trace["tokens"] + trace["reused"]


def test_the_default_is_the_settings_and_unknown_names_are_refused(built_home: Any, make_engine: MakeEngine) -> None:
    engine = make_engine(built_home, model=ModelConfig(name="lexical"), dialects=DialectsConfig(reranker="pointwise"))
    with TestClient(create_app(engine)) as client:
        for path in PATHS:
            assert post(client, path, documents=DOCUMENTS)["model"] == "pointwise"
            response = client.post(path, json={"query": QUERY, "documents": DOCUMENTS, "model": "rerank-v3.5"})
            problem = assert_problem(response, 422)
            assert problem["error"]["param"] == "model"
            assert "unknown_models" in problem["detail"]


def test_unknown_names_can_be_given_the_default_which_is_said(built_home: Any, make_engine: MakeEngine) -> None:
    chosen = DialectsConfig(unknown_models="default")
    with TestClient(create_app(make_engine(built_home, dialects=chosen))) as client:
        body = post(client, "/v2/rerank", documents=DOCUMENTS, model="rerank-v3.5")
    assert body["model"] == "sentences"
    assert "rerank-v3.5" in body["meta"]["warnings"][0]


# --- TEI ---


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_texts_are_answered_as_tei_does(speaks: Client, path: str) -> None:
    body = post(speaks, path, texts=DOCUMENTS)
    assert sorted(order(body)) == [0, 1, 2, 3]
    assert order(body) == order(post(speaks, path, documents=DOCUMENTS)["results"])
    assert all(set(one) == {"index", "score"} for one in body)
    more = {"return_text": True, "raw_scores": False, "truncate": False, "truncation_direction": "Right", "top_n": 2}
    two = post(speaks, path, texts=DOCUMENTS, **more)
    assert [(one["index"], one["score"]) for one in two] == [(one["index"], one["score"]) for one in body[:2]]
    assert [one["text"] for one in two] == [DOCUMENTS[one["index"]] for one in two]


def test_tei_raw_scores_and_models(speaks: Client) -> None:
    calibrated = post(speaks, "/rerank", texts=DOCUMENTS, model="icr")
    raw = post(speaks, "/rerank", texts=DOCUMENTS, model="icr", raw_scores=True)
    assert order(raw) == order(calibrated)
    assert max(one["score"] for one in raw) != max(one["score"] for one in calibrated)
    unknown = post(speaks, "/rerank", texts=DOCUMENTS, model="text-embeddings-inference")
    assert unknown == post(speaks, "/rerank", texts=DOCUMENTS), "TEI has one model, and its clients send any name"


def test_tei_errors_have_teis_shape(speaks: Client) -> None:
    tei_error(speaks.post("/rerank", json={"query": QUERY, "texts": []}), 400, "Empty")
    tei_error(speaks.post("/rerank", json={"query": QUERY, "texts": "one"}), 422, "Validation")
    tei_error(speaks.post("/rerank", json={"texts": ["a"]}), 422, "Validation")
    tei_error(speaks.post("/rerank", json={"query": " ", "texts": ["a"]}), 422, "Validation")
    tei_error(
        speaks.post("/rerank", json={"query": QUERY, "texts": ["a"], "truncation_direction": "up"}), 422, "Validation"
    )
    too_many = tei_error(speaks.post("/v1/rerank", json={"query": QUERY, "texts": ["a"] * 1001}), 422, "Validation")
    assert "max_rerank_documents" in too_many


def test_a_tei_model_that_cannot_be_loaded_is_unhealthy(built_home: Any, make_engine: MakeEngine) -> None:
    own = {"missing": RerankerConfig(kind="prp", model="/no/such/model")}
    with TestClient(create_app(make_engine(built_home, rerankers={**BUILT_IN_RERANKERS, **own}))) as client:
        response = client.post("/rerank", json={"query": QUERY, "texts": ["a", "b"], "model": "missing"})
        tei_error(response, 503, "Unhealthy")
        assert int(response.headers["retry-after"]) > 0


# --- refusals ---


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"documents": None},
        {"documents": ["a"], "texts": ["a"]},
        {"documents": ["a"], "top_n": -1},
        {"documents": ["a"], "top_n": "many"},
        {"documents": ["a"], "return_documents": "maybe"},
        {"documents": ["a"], "max_tokens_per_doc": 0},
        {"documents": [["a"]]},
        {"documents": [{"title": "no text"}]},
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_what_is_no_request_is_refused_in_the_one_shape(speaks: Client, path: str, body: dict[str, Any]) -> None:
    assert_problem(speaks.post(path, json={"query": QUERY} | body), 422)


def test_cohere_2_has_no_texts(speaks: Client) -> None:
    assert_problem(speaks.post("/v2/rerank", json={"query": QUERY, "texts": ["a"]}), 422)
