"""POST /v1/search gives what the library gives, and refuses what cannot be asked by saying why."""

from __future__ import annotations

from typing import Any

import pytest

from indexes.filters import parse_filter
from rag.assemble import Engine
from rag.values import Query
from tests.api.conftest import Client, assert_problem


def ask(client: Client, query: Any, **rest: Any) -> dict[str, Any]:
    response = client.post("/v1/search", json={"collection": "demo", "query": query, **rest})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def refused(client: Client, status: int, code: str, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/search", json={"collection": "demo", "query": "light"} | body)
    return assert_problem(response, status, code)


@pytest.mark.parametrize("pipeline", ["bm25", "dense", "hybrid", "fast-forward", "ask"])
def test_search_is_the_librarys_ranking(client: Client, engine: Engine, pipeline: str) -> None:
    expected = engine.pipeline("demo", pipeline).search(Query("what pumps blood?"), 3)
    found = ask(client, "what pumps blood?", k=3, pipeline=pipeline)["results"]
    assert [(r["chunk_id"], r["raw_score"], r["relevance_score"]) for r in found] == [
        (hit.chunk.id, pytest.approx(hit.score), pytest.approx(expected.relevance(hit))) for hit in expected
    ]
    assert [r["rank"] for r in found] == list(range(1, len(found) + 1))
    assert found[0]["document_id"] == "bio/heart"
    assert {r["score_kind"] for r in found} == {expected.kind.value}


def test_a_result_carries_its_text_and_place(client: Client) -> None:
    first = ask(client, "yeast dough", k=1)["results"][0]
    text = "Yeast makes dough rise, because it gives off carbon dioxide."
    assert (first["title"], first["text"]) == ("Bread", text)
    assert (first["start"], first["end"]) == (0, len(text))
    assert "explain" not in first
    assert 0 <= first["relevance_score"] <= 1


def test_the_trace_names_collection_pipeline_and_stages(client: Client) -> None:
    response = client.post(
        "/v1/search", json={"collection": "demo", "query": "tides"}, headers={"x-request-id": "abc-1"}
    )
    trace = response.json()["trace"]
    assert (trace["request_id"], trace["collection"], trace["version"]) == ("abc-1", "demo", 1)
    assert trace["pipeline"] == "hybrid"
    assert [stage["stage"] for stage in trace["stages"]] == ["bm25", "dense", "fusion"]
    assert trace["stages"][0]["n_in"] is None
    assert trace["stages"][2]["n_in"] >= trace["stages"][2]["n_out"] > 0
    assert trace["total_time_ms"] > 0
    assert all(stage["time_ms"] >= 0 for stage in trace["stages"])


def test_a_list_of_queries_is_answered_in_order(client: Client) -> None:
    queries = ["tides of the ocean", "yeast dough", "speed of light"]
    together = ask(client, queries, k=2)["responses"]
    alone = [ask(client, query, k=2) for query in queries]
    assert [r["results"] for r in together] == [r["results"] for r in alone]


def test_a_pipeline_can_be_given_inline(client: Client) -> None:
    body = ask(client, "light", pipeline={"retrieve": ["bm25"], "k": 1})
    assert [stage["stage"] for stage in body["trace"]["stages"]] == ["bm25"]
    assert len(body["results"]) == 1


def test_inline_keys_replace_those_of_the_named_pipeline(client: Client) -> None:
    body = ask(client, "light", pipeline={"name": "hybrid", "fuse": "rrf"})
    assert body["trace"]["pipeline"] == "hybrid"
    assert {r["score_kind"] for r in body["results"]} == {"rrf"}


def test_a_filter_limits_the_documents(client: Client, engine: Engine) -> None:
    raw = {"topic": "biology", "year": {"gte": 2005}}
    found = ask(client, "light blood water", filter=raw)["results"]
    assert [r["document_id"] for r in found] == ["bio/heart"]
    expected = engine.pipeline("demo").search(Query("light blood water", filter=parse_filter(raw)))
    assert [r["chunk_id"] for r in found] == [hit.chunk.id for hit in expected]


def test_explain_gives_every_stages_rank_and_score(client: Client, engine: Engine) -> None:
    found = ask(client, "speed of light", explain=True, k=5)["results"]
    bm25 = engine.pipeline("demo", "bm25").search(Query("speed of light"), 100)
    places = {hit.chunk.id: (rank, hit.score) for rank, hit in enumerate(bm25, start=1)}
    assert len(places) < len(found), "the test needs a chunk that BM25 did not find"
    for result in found:
        stages = {entry["stage"]: entry for entry in result["explain"]}
        assert (stages["fusion"]["rank"], stages["fusion"]["score"]) == (result["rank"], result["raw_score"])
        assert ("bm25" in stages) == (result["chunk_id"] in places)
        if "bm25" in stages:
            rank, score = places[result["chunk_id"]]
            assert stages["bm25"] == {"stage": "bm25", "rank": rank, "score": score, "score_kind": "bm25"}


@pytest.mark.parametrize(
    "query", ["the of and", 'AND ( "', "+-&|!(){}[]^~*?:\\/", "a\x01b\x7f\x00 light", "\U0001f331"]
)
def test_any_text_can_be_asked(client: Client, query: str) -> None:
    for pipeline in ("bm25", "hybrid"):
        ask(client, query, pipeline=pipeline)


def test_a_query_of_stop_words_finds_nothing_in_bm25(client: Client) -> None:
    assert ask(client, "the of and", pipeline="bm25")["results"] == []


def test_lucene_syntax_means_nothing(client: Client) -> None:
    assert ask(client, "heart AND NOT blood", pipeline="bm25")["results"][0]["document_id"] == "bio/heart"


@pytest.mark.parametrize("k", [0, -1, 10_001, 10**12, 10**25])
def test_a_k_out_of_range_is_refused(client: Client, k: int) -> None:
    response = client.post("/v1/search", json={"collection": "demo", "query": "light", "k": k, "pipeline": "bm25"})
    assert_problem(response, 422)


@pytest.mark.parametrize("query", ["", "  \n", "x" * 8193, "x" * 2**20])
def test_an_empty_or_oversized_query_is_refused(client: Client, query: str) -> None:
    detail = refused(client, 422, "invalid_query", query=query)["detail"]
    assert "empty" in detail or "8192" in detail


@pytest.mark.parametrize("queries", [[], ["light"] * 101])
def test_a_list_holds_1_to_100_queries(client: Client, queries: list[str]) -> None:
    assert refused(client, 422, "invalid_input", query=queries)["error"]["param"] == "query"


def test_an_unknown_field_is_refused_with_the_nearest_known_one(client: Client) -> None:
    body = refused(client, 422, "invalid_input", filtre={"year": 2001})
    assert "did you mean 'filter'?" in body["detail"]
    assert body["error"]["param"] == "filtre"


def test_an_unknown_pipeline_key_is_refused_with_the_nearest_known_one(client: Client) -> None:
    body = refused(client, 422, "invalid_pipeline", pipeline={"dept": 5})
    assert "did you mean 'depth'?" in body["detail"]
    assert body["error"]["param"] == "pipeline"


def test_an_unknown_pipeline_is_not_found(client: Client) -> None:
    assert "did you mean 'bm25'?" in refused(client, 404, "pipeline_not_found", pipeline="bm26")["detail"]
    assert "did you mean 'bm25'?" in refused(client, 404, "pipeline_not_found", pipeline={"name": "bm26"})["detail"]


def test_an_unknown_collection_is_not_found_and_no_path_is_told(client: Client, engine: Engine) -> None:
    body = refused(client, 404, "collection_not_found", collection="nowhere")
    assert "demo" in body["detail"]
    assert str(engine.home.root) not in body["detail"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("k", "five"), ("k", True), ("query", 5), ("query", None), ("explain", "yes"), ("collection", 1), ("filter", [])],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(client: Client, field: str, value: object) -> None:
    response = client.post("/v1/search", json={"collection": "demo", "query": "light"} | {field: value})
    assert assert_problem(response, 422)["error"]["param"] == field


@pytest.mark.parametrize(
    "pipeline",
    [
        {"name": 5},
        {"depth": 0},
        {"depth": 10**30},
        {"alpha": 10**400},
        {"weights": [1, 10**400]},
        {"retrieve": []},
        {"retrieve": [["bm25"]]},
        {"retrieve": {"bm25": 1}},
        {"rerank": "cross-encoder"},
        {"rerank": "cross-encoder", "rerank_model": "some/model"},
        {"generate": "remote"},
    ],
)
def test_an_override_that_cannot_run_is_refused(client: Client, pipeline: dict[str, Any]) -> None:
    refused(client, 422, "invalid_pipeline", pipeline=pipeline)


@pytest.mark.parametrize("raw", [{"year": {"near": 3}}, {"and": []}, {"year": 10**30}, {"year": {}}, {}])
def test_a_filter_that_cannot_be_understood_is_refused(client: Client, raw: dict[str, Any]) -> None:
    assert refused(client, 422, "invalid_filter", filter=raw)["error"]["param"] == "filter"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"collection": "demo", "query": NaN}',
        b'{"collection": "demo", "query": "\\ud800 light"}',
        b'{"collection": "demo", "query": "\xed\xa0\x80"}',
        b'{"collection": "demo", "query": "x", "filter": ' + b'{"not":' * 20_000 + b"1" + b"}" * 20_001,
    ],
)
def test_what_is_not_json_is_a_malformed_body(client: Client, body: bytes) -> None:
    assert_problem(client.post("/v1/search", content=body), 400, "malformed_body")


def test_a_k_above_the_depth_is_refused_with_what_to_do(client: Client) -> None:
    assert "depth" in refused(client, 422, "invalid_query", k=501)["detail"]


def test_an_alias_and_a_version_name_the_collection(client: Client, engine: Engine) -> None:
    engine.home.set_alias("latest-demo", "demo@1")
    for reference in ("latest-demo", "demo@1"):
        body = client.post("/v1/search", json={"collection": reference, "query": "tides"}).json()
        assert body["trace"]["collection"] == "demo"
    engine.home.set_alias("latest-demo", None)
