"""GET /v1/{index}/search and /doc as Anserini's and Pyserini's clients ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from api.app import create_app
from indexes.build import BuildSettings, build
from indexes.chunking import Chunking
from indexes.corpus import Document
from rag.assemble import Engine
from rag.values import Query
from tests.api.conftest import Client, MakeEngine
from tests.fakes import ListSource


def search(client: Client, index: str = "demo", **asked: Any) -> Any:
    return client.get(f"/v1/{index}/search", params={"query": "light water"} | asked)


def refused(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    return str(response.json()["error"])


def test_candidates_are_the_librarys_by_bm25(speaks: Client, dialect_engine: Engine) -> None:
    ranking = dialect_engine.pipeline("demo", "bm25").search(Query("light water"), 10)
    body = search(speaks).json()
    assert (body["api"], body["index"], body["query"]) == ("v1", "demo", {"text": "light water"})
    assert [one["docid"] for one in body["candidates"]] == [hit.chunk.doc_id for hit in ranking]
    assert [one["score"] for one in body["candidates"]] == [round(hit.score, 6) for hit in ranking]
    assert [one["rank"] for one in body["candidates"]] == list(range(1, len(ranking) + 1))
    first = body["candidates"][0]["doc"]
    assert (first["id"], first["title"]) == ("bio/leaf", "Photosynthesis")
    assert first["text"].startswith("Plants make sugar")
    assert search(speaks, hits=1).json()["candidates"] == body["candidates"][:1]
    assert search(speaks, k1=0.9, b=0.4).json() == body


def test_documents_are_objects_or_text_and_can_be_cut(speaks: Client) -> None:
    whole = speaks.get("/v1/demo/doc/bio/leaf").json()
    assert (whole["docid"], whole["doc"]["metadata"]["topic"]) == ("bio/leaf", "biology")
    plain = speaks.get("/v1/demo/doc/bio/leaf", params={"parse": "false"}).json()["doc"]
    assert json.loads(plain) == whole["doc"]
    assert speaks.get("/v1/demo/doc/bio%2Fleaf", params={"max_doc_length": 6}).json()["doc"]["text"] == "Plants"
    assert search(speaks, max_doc_length=6).json()["candidates"][0]["doc"]["text"] == "Plants"


@pytest.fixture
def cut(tmp_path: Path, make_engine: MakeEngine) -> Iterator[Client]:
    """A collection of 20 documents of 30 chunks each, and five of one."""
    engine = make_engine(tmp_path)
    long = [Document(f"long{i:02d}", "", " ".join(f"Light number {j} of {i}." for j in range(30))) for i in range(20)]
    short = [Document(f"short{i}", "", f"Here is some light beside many other words, {i}.") for i in range(5)]
    settings = BuildSettings(chunking=Chunking("sentences", 8, 0))
    build(engine.home, "cut", ListSource([*long, *short]), engine.encoder, settings)
    with TestClient(create_app(engine)) as client:
        yield client


def test_a_document_of_many_chunks_is_one_candidate(cut: Client) -> None:
    found = [one["docid"] for one in search(cut, "cut", query="light", hits=23).json()["candidates"]]
    assert len(found) == len(set(found)) == 23
    assert search(cut, "cut", query="light", hits=5).json()["candidates"][0]["docid"] == found[0]


@pytest.mark.parametrize(
    "asked",
    [
        {"hits": 0},
        {"hits": "many"},
        {"query": " "},
        {"k1": 0.9},
        {"b": 0.4},
        {"k1": 2.0, "b": 0.4},
        {"k1": "nan", "b": 0.4},
        {"parse": "false", "max_doc_length": 5},
        {"max_doc_length": 0},
    ],
)
def test_what_cannot_be_asked_is_a_400(speaks: Client, asked: dict[str, Any]) -> None:
    refused(search(speaks, **asked), 400)


def test_errors_have_their_shape(speaks: Client) -> None:
    refused(speaks.get("/v1/demo/search"), 400)
    refused(search(speaks, "nowhere"), 404)
    refused(speaks.get("/v1/demo/doc/nothing"), 404)
    refused(speaks.get("/v1/nowhere/doc/bio/leaf"), 404)
