"""/v1/models, /info and /score tell and do what their clients expect."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.assemble import Engine
from rag.dialects_table import DialectsConfig
from rag.reranking.given import Passage, as_given, place_of
from rag.values import Query
from tests.api.conftest import Client, MakeEngine, assert_problem

QUERY = "what pumps blood?"
TEXTS = ["Plants make sugar.", "The heart pumps blood.", "Blood is red."]


# --- models ---


def test_rerankers_the_encoder_and_collections_are_models(speaks: Client) -> None:
    body = speaks.get("/v1/models").json()
    assert body["object"] == "list"
    kinds = {one["id"]: one["kind"] for one in body["data"]}
    assert kinds["icr"] == kinds["sentences"] == "reranker"
    assert "cross-encoder" not in kinds, "it has no model"
    assert kinds["all-MiniLM-L6-v2"] == "encoder"
    assert kinds["kvasir/demo"] == kinds["kvasir/demo/ask"] == kinds["kvasir/demo/bm25"] == "collection"
    assert all(set(one) == {"id", "object", "created", "owned_by", "kind"} for one in body["data"])
    assert all(one["created"] > 1_700_000_000 for one in body["data"])


def test_every_listed_model_can_be_asked_for_by_name(speaks: Client) -> None:
    for one in speaks.get("/v1/models").json()["data"]:
        assert speaks.get(f"/v1/models/{one['id']}").json() == one
        assert speaks.get(f"/v1/models/{one['id'].replace('/', '%2F')}").json() == one
    problem = assert_problem(speaks.get("/v1/models/kvasir/dem"), 404, "model_not_found")
    assert "did you mean 'kvasir/demo'?" in problem["detail"]


def test_an_alias_is_a_model_too(built_home: Path, tmp_path: Path, make_engine: MakeEngine) -> None:
    shutil.copytree(built_home, tmp_path / "home")
    engine = make_engine(tmp_path / "home")
    engine.home.set_alias("latest", "demo")
    with TestClient(create_app(engine)) as client:
        assert client.get("/v1/models/kvasir/latest/bm25").json()["kind"] == "collection"


# --- info ---


def test_info_names_the_default_reranker_and_the_limits(built_home: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(built_home, dialects=DialectsConfig(reranker="icr"), server={"max_rerank_documents": 77})
    with TestClient(create_app(engine)) as client:
        body = client.get("/info").json()
    assert list(body["model_type"]) == ["reranker"]
    assert (body["served_model_name"], body["max_client_batch_size"], body["max_input_length"]) == ("icr", 77, 512)
    wanted = "model_id model_dtype max_concurrent_requests max_batch_tokens auto_truncate tokenization_workers version"
    assert set(wanted.split()) <= set(body)


# --- score ---


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize("names", [("text_1", "text_2"), ("queries", "documents")])
def test_scores_are_the_librarys_in_the_requests_order(
    speaks: Client, dialect_engine: Engine, path: str, names: tuple[str, str]
) -> None:
    ranking = dialect_engine.reranker("sentences").rerank(Query(QUERY), as_given([Passage(one) for one in TEXTS]))
    expected = {place_of(hit): ranking.relevance(hit) for hit in ranking}
    body = speaks.post(path, json={names[0]: QUERY, names[1]: TEXTS, "model": "sentences"}).json()
    assert (body["object"], body["score_kind"]) == ("list", ranking.kind.value)
    assert [(one["index"], one["object"]) for one in body["data"]] == [(i, "score") for i in range(3)]
    assert [one["score"] for one in body["data"]] == pytest.approx([expected[i] for i in range(3)], abs=1e-6)
    single = speaks.post(path, json={names[0]: [QUERY], names[1]: TEXTS[1]}).json()["data"]
    assert single[0]["score"] == pytest.approx(expected[1], abs=1e-5)


def test_pairs_are_scored_each_by_itself(speaks: Client) -> None:
    queries = [QUERY, "what makes sugar?"]
    body = speaks.post("/score", json={"text_1": queries, "text_2": TEXTS[:2], "model": "pointwise"}).json()
    alone = [
        speaks.post("/score", json={"text_1": query, "text_2": text, "model": "pointwise"}).json()["data"][0]["score"]
        for query, text in zip(queries, TEXTS, strict=False)
    ]
    assert [one["score"] for one in body["data"]] == pytest.approx(alone)


@pytest.mark.parametrize(
    "body",
    [
        {"text_1": QUERY},
        {"text_2": TEXTS},
        {"text_1": [QUERY] * 2, "text_2": TEXTS},
        {"text_1": QUERY, "text_2": []},
        {"text_1": [QUERY] * 3, "text_2": TEXTS, "model": "prp"},
        {"text_1": [QUERY] * 1001, "text_2": ["x"] * 1001},
        {"text_1": QUERY, "text_2": TEXTS, "model": "nothing"},
    ],
)
def test_what_cannot_be_scored_is_refused(speaks: Client, body: dict[str, Any]) -> None:
    assert_problem(speaks.post("/score", json=body), 422)
