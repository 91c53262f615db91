"""What is damaged, missing or of another format is told and never served; what is whole goes on."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from indexes.errors import CollectionDamaged, CollectionNotFound, FormatNotSupported, InvalidInput
from indexes.vectors import VectorSettings
from tests.indexes.conftest import Shelf, documents, everywhere

HNSW = VectorSettings(kind="hnsw")


def ids(n: int) -> set[str]:
    return {f"d{i:04d}" for i in range(n)}


def largest(directory: Path, pattern: str) -> Path:
    return max(directory.rglob(pattern), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("pattern", ["*.f32", "ann.faiss", "_*.*", "segments_*", "manifest.json", "documents.sqlite"])
@pytest.mark.parametrize("how", ["truncated", "altered", "missing"])
def test_a_damaged_file_is_noticed_and_never_served(shelf: Shelf, pattern: str, how: str) -> None:
    built = shelf.build("c", documents(400, words=30), HNSW)
    path = largest(built.place.path, pattern)
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[:middle])
    elif pattern == "documents.sqlite":
        path.write_bytes(content[:100] + b"\xff" * 4000 + content[4100:])
    else:
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :])
    if (pattern, how) == ("manifest.json", "altered"):
        path.write_bytes(b'{"format": 1}')
    with pytest.raises(CollectionDamaged):
        everywhere(shelf.open("c"))
    assert shelf.build("c", documents(3)).place.version == 2
    assert everywhere(shelf.open("c")) == (ids(3),) * 3


def test_a_lucene_file_cut_under_an_open_searcher_is_an_error_and_not_the_end(shelf: Shelf) -> None:
    built = shelf.build("c", documents(2000, words=30))
    collection = shelf.open("c")
    words = " ".join(document.text for document in documents(50))
    assert collection.snapshot().search_sparse(words, 5)
    for path in (built.place.path / "lucene").glob("_*.*"):
        path.write_bytes(b"")
    with contextlib.suppress(CollectionDamaged):
        collection.snapshot().search_sparse(words, 2000)
    with pytest.raises(CollectionDamaged):
        shelf.open("c").snapshot().search_sparse(words, 5)


def test_another_format_is_refused_by_number(shelf: Shelf) -> None:
    place = shelf.build("c", documents(3)).place
    path = place.path / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(FormatNotSupported, match="has format 99, this Kvasir reads format 1"):
        shelf.open("c").snapshot()


def test_a_collection_deleted_under_its_reader_is_not_found_and_others_go_on(shelf: Shelf) -> None:
    for name in ("a", "b"):
        shelf.build(name, documents(5))
    a, b = shelf.open("a"), shelf.open("b")
    assert everywhere(a) == everywhere(b)
    shelf.home.drop("a")
    with pytest.raises(CollectionNotFound, match="no collection 'a'"):
        a.snapshot()
    assert everywhere(b) == (ids(5),) * 3
    shelf.build("a", documents(7))
    assert everywhere(a) == (ids(7),) * 3, "a new one of that name is another collection"


def test_a_store_is_never_made_by_reading_it(shelf: Shelf) -> None:
    place = shelf.build("c", documents(3)).place
    store = shelf.open("c").snapshot().store
    (place.path / "documents.sqlite").unlink()
    errors: list[Exception] = []

    def read() -> None:
        try:
            store.counts()
        except CollectionDamaged as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert errors
    assert not (place.path / "documents.sqlite").exists()


def test_a_resumed_build_starts_over_where_its_beginning_is_damaged(shelf: Shelf) -> None:
    with pytest.raises(InvalidInput):
        shelf.build("c", documents(100), VectorSettings(kind="ivfpq", pq_bytes=8))
    store = shelf.home.building("c") / "documents.sqlite"
    with sqlite3.connect(store) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    store.write_bytes(store.read_bytes()[:5000])
    built = shelf.build("c", documents(100))
    assert not built.resumed
    assert everywhere(shelf.open("c")) == (ids(100),) * 3
