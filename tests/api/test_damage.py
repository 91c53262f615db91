"""A collection that is removed or cut short under the running server: one error, and the server lives on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api.conftest import Client, assert_problem

Damage = Callable[[Path], None]


def remove_all(collection: Path) -> None:
    shutil.rmtree(collection)


def remove_version(collection: Path) -> None:
    shutil.rmtree(collection / "versions" / "1")


def cut_sqlite(collection: Path) -> None:
    file = collection / "versions" / "1" / "documents.sqlite"
    file.write_bytes(file.read_bytes()[:100])


def spoil_lucene(collection: Path) -> None:
    for file in (collection / "versions" / "1" / "lucene").iterdir():
        file.write_bytes(b"")


def spoil_vectors(collection: Path) -> None:
    for file in (collection / "versions" / "1" / "vectors").iterdir():
        file.write_bytes(file.read_bytes()[:-4])


def spoil_manifest(collection: Path) -> None:
    (collection / "versions" / "1" / "manifest.json").write_text("{")


def spoil_pointer(collection: Path) -> None:
    (collection / "current").write_text("one")


def search(client: Client, collection: str) -> tuple[int, list[str]]:
    response = client.post("/v1/search", json={"collection": collection, "query": "light and blood"})
    if response.status_code != 200:
        assert_problem(response, response.status_code)
        return response.status_code, []
    return 200, [result["chunk_id"] for result in response.json()["results"]]


@pytest.mark.parametrize("damage", [remove_all, remove_version])
def test_a_collection_removed_while_it_is_open_is_not_found(own_client: Client, home: Path, damage: Damage) -> None:
    shutil.copytree(home / "collections" / "demo", home / "collections" / "victim")
    before = search(own_client, "victim")
    assert before[0] == 200
    damage(home / "collections" / "victim")
    assert search(own_client, "victim") == (404, [])
    assert search(own_client, "demo") == before
    assert own_client.get("/health").status_code == 200


@pytest.mark.parametrize("damage", [cut_sqlite, spoil_lucene, spoil_vectors, spoil_manifest, spoil_pointer])
def test_a_damaged_collection_is_a_503_and_the_others_serve(own_client: Client, home: Path, damage: Damage) -> None:
    shutil.copytree(home / "collections" / "demo", home / "collections" / "victim")
    damage(home / "collections" / "victim")
    response = own_client.post("/v1/search", json={"collection": "victim", "query": "light and blood"})
    body = assert_problem(response, 503, "collection_damaged")
    assert str(home) not in body["detail"]
    assert response.headers["x-should-retry"] == "false"
    assert search(own_client, "demo")[0] == 200
    assert own_client.get("/v1/collections").status_code == 200


@pytest.mark.parametrize("damage", [cut_sqlite, spoil_lucene, spoil_vectors, spoil_manifest, spoil_pointer])
def test_damage_to_an_open_collection_is_no_crash(own_client: Client, home: Path, damage: Damage) -> None:
    """What is mapped or read already may go on serving; what must be read again says that it cannot."""
    shutil.copytree(home / "collections" / "demo", home / "collections" / "victim")
    before = search(own_client, "victim")
    assert before[0] == 200
    if damage is spoil_lucene:  # Lucene maps its files: cutting a mapped file would kill any process, so replace them
        shutil.rmtree(home / "collections" / "victim" / "versions" / "1" / "lucene")
    else:
        damage(home / "collections" / "victim")
    assert search(own_client, "victim")[0] in (200, 503)
    added = own_client.post("/v1/collections/victim/documents", json={"documents": [{"id": "n", "text": "new"}]})
    assert added.status_code in (200, 503)
    assert search(own_client, "victim")[0] in (200, 503)
    assert search(own_client, "demo") == before
