"""/v1/collections and their documents: a round trip, and every way to be refused."""

from __future__ import annotations

from typing import Any

import pytest

from rag.assemble import Engine
from tests.api.conftest import DOCUMENTS, Client, assert_problem


def found(client: Client, collection: str, query: str, pipeline: str = "hybrid") -> list[str]:
    body = {"collection": collection, "query": query, "pipeline": pipeline}
    response = client.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    return [result["document_id"] for result in response.json()["results"]]


def add(client: Client, collection: str, *documents: dict[str, Any]) -> Any:
    return client.post(f"/v1/collections/{collection}/documents", json={"documents": documents})


def test_the_list_tells_what_each_collection_holds(client: Client) -> None:
    body = client.get("/v1/collections").json()
    demo = next(entry for entry in body["collections"] if entry["name"] == "demo")
    assert (demo["status"], demo["version"], demo["documents"], demo["chunks"]) == ("ok", 1, 6, 6)
    assert demo == client.get("/v1/collections/demo").json()
    assert demo == client.get("/v1/collections/demo@1").json()


def test_a_collection_lives_from_create_to_remove(own_client: Client) -> None:
    documents = [{"id": "a", "text": "Granite is an igneous rock."}, {"id": "b", "text": "Marble is metamorphic."}]
    created = own_client.post("/v1/collections", json={"name": "rocks", "documents": documents})
    assert created.status_code == 201
    assert (created.json()["documents"], created.json()["chunking"]) == (2, "sentences")
    assert found(own_client, "rocks", "igneous rock")[0] == "a"
    again = own_client.post("/v1/collections", json={"name": "rocks", "documents": documents})
    assert_problem(again, 409, "collection_exists")
    assert again.headers["x-should-retry"] == "false"
    assert own_client.delete("/v1/collections/rocks").json() == {"dropped": "rocks"}
    assert_problem(own_client.get("/v1/collections/rocks"), 404, "collection_not_found")
    assert_problem(own_client.delete("/v1/collections/rocks"), 404, "collection_not_found")
    search = own_client.post("/v1/search", json={"collection": "rocks", "query": "rock"})
    assert_problem(search, 404, "collection_not_found")
    recreated = own_client.post("/v1/collections", json={"name": "rocks", "documents": documents[1:]})
    assert recreated.json()["documents"] == 1
    assert found(own_client, "rocks", "igneous rock") == ["b"]


def test_chunking_is_the_requests_choice(own_client: Client) -> None:
    document = {"id": "a", "text": "One sentence is here. " * 40}
    sizes = []
    for name, chunking in (("one", "whole"), ("many", {"kind": "sentences", "limit": 16, "overlap": 0})):
        body = {"name": name, "documents": [document], "chunking": chunking}
        sizes.append(own_client.post("/v1/collections", json=body).json()["chunks"])
    assert sizes[0] == 1
    assert sizes[1] > 5


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"name": "../evil"}, 422, "invalid_input"),
        ({"name": ""}, 422, "invalid_input"),
        ({"documents": []}, 422, "invalid_input"),
        ({"documents": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}, 422, "invalid_input"),
        ({"documents": [{"id": "", "text": "x"}]}, 422, "invalid_input"),
        ({"documents": [{"id": "a\n", "text": "x"}]}, 422, "invalid_input"),
        ({"documents": [{"id": "a"}]}, 422, "invalid_input"),
        ({"documents": [{"id": "a", "text": "x", "metadata": {"y": {"z": 1}}}]}, 422, "invalid_input"),
        ({"documents": [{"id": "a", "text": "x", "metadata": {"y": 2**63}}]}, 422, "invalid_input"),
        ({"documents": [{"id": "a", "text": "x", "metadata": {"y": [2**63]}}]}, 422, "invalid_input"),
        ({"chunking": {"limit": 8, "overlap": 8}}, 422, "invalid_input"),
        ({"chunking": {"limit": 0}}, 422, "invalid_input"),
        ({"chunking": "words"}, 422, "invalid_input"),
        ({"name": "demo"}, 409, "collection_exists"),
    ],
)
def test_a_collection_that_cannot_be_made_is_refused_and_leaves_nothing(
    client: Client, change: dict[str, Any], status: int, code: str
) -> None:
    body = {"name": "never", "documents": [{"id": "a", "text": "x"}]} | change
    assert_problem(client.post("/v1/collections", json=body), status, code)
    assert_problem(client.get("/v1/collections/never"), 404)


def test_an_unknown_field_of_a_document_is_named_with_its_place(client: Client) -> None:
    response = add(client, "demo", {"id": "a", "text": "x", "metdata": {}})
    body = assert_problem(response, 422)
    assert "did you mean 'metadata'?" in body["detail"]
    assert body["error"]["param"] == "documents[0].metdata"


def test_documents_are_added_replaced_found_and_deleted(own_client: Client) -> None:
    document = {"id": "geo/volcano", "title": "Volcano", "text": "Magma rises in a volcano.", "metadata": {"year": 5}}
    first = add(own_client, "demo", document).json()
    assert (first["added"], first["updated"], first["chunks"]) == (1, 0, 1)
    for pipeline in ("bm25", "dense", "hybrid"):
        assert found(own_client, "demo", "volcano magma", pipeline)[0] == "geo/volcano"
    stored = own_client.get("/v1/collections/demo/documents/geo/volcano").json()
    assert stored == document
    second = add(own_client, "demo", document | {"text": "Lava flows out."}).json()
    assert (second["added"], second["updated"]) == (1, 1)
    assert found(own_client, "demo", "magma", "bm25") == []
    gone = own_client.delete("/v1/collections/demo/documents/geo/volcano")
    assert (gone.status_code, gone.json()["deleted"]) == (200, 1)
    for pipeline in ("bm25", "dense", "hybrid"):
        assert "geo/volcano" not in found(own_client, "demo", "volcano lava", pipeline)
    assert_problem(own_client.get("/v1/collections/demo/documents/geo/volcano"), 404, "document_not_found")
    assert_problem(own_client.delete("/v1/collections/demo/documents/geo/volcano"), 404, "document_not_found")


def test_a_batch_is_deleted_and_absent_ids_are_passed_over(own_client: Client) -> None:
    ids = ["bio/heart", "geo/tide", "nothing"]
    change = own_client.post("/v1/collections/demo/documents/delete", json={"ids": ids}).json()
    assert change["deleted"] == 2
    assert {"bio/heart", "geo/tide"}.isdisjoint(found(own_client, "demo", "blood moon water"))
    assert own_client.get("/v1/collections/demo").json()["documents"] == len(DOCUMENTS) - 2


@pytest.mark.parametrize("doc_id", ["delete", "delete/x", "a//b", "a/", "ä ö", "100%", "a?b#c", "..x"])
def test_any_id_can_be_read_and_deleted(own_client: Client, doc_id: str) -> None:
    from urllib.parse import quote

    assert add(own_client, "demo", {"id": doc_id, "text": "found by its id"}).status_code == 200
    path = f"/v1/collections/demo/documents/{quote(doc_id)}"
    assert own_client.get(path).json()["id"] == doc_id
    assert own_client.delete(path).json()["deleted"] == 1
    assert_problem(own_client.get(path), 404, "document_not_found")


def test_a_listing_can_be_walked_page_by_page(client: Client) -> None:
    ids, after = [], ""
    for _ in range(10):
        page = client.get("/v1/collections/demo/documents", params={"limit": 4, "after": after}).json()
        ids += [entry["id"] for entry in page["documents"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert ids == sorted(document.id for document in DOCUMENTS)


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"limit": "many"}])
def test_a_limit_out_of_range_is_refused_by_name(client: Client, params: dict[str, Any]) -> None:
    body = assert_problem(client.get("/v1/collections/demo/documents", params=params), 422, "invalid_parameter")
    assert body["error"]["param"] == "limit"


def test_more_documents_than_allowed_are_refused(client: Client, engine: Engine) -> None:
    most = engine.settings.server.max_documents
    response = add(client, "demo", *({"id": str(n), "text": ""} for n in range(most + 1)))
    assert str(most) in assert_problem(response, 422, "invalid_input")["detail"]


def test_a_collection_somebody_else_writes_to_is_busy(client: Client, engine: Engine) -> None:
    collection = engine.collection("demo")
    collection.lock_wait = 0.05
    with engine.home.lock("demo"):
        response = add(client, "demo", {"id": "x", "text": "y"})
    assert_problem(response, 409, "collection_busy")
    assert int(response.headers["retry-after"]) > 0


def test_a_collection_an_alias_points_at_is_not_removed(client: Client, engine: Engine) -> None:
    engine.home.set_alias("kept", "demo")
    assert_problem(client.delete("/v1/collections/demo"), 422)
    assert client.get("/v1/collections").json()["aliases"] == {"kept": "demo"}
    taken = client.post("/v1/collections", json={"name": "kept", "documents": [{"id": "a", "text": "x"}]})
    assert_problem(taken, 409, "collection_exists")
    engine.home.set_alias("kept", None)
    assert client.get("/v1/collections/demo").status_code == 200
