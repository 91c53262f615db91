"""Added, updated and deleted documents are seen at once by every search, and deleted ones never again."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from indexes import changes
from indexes.collection import Collection
from indexes.corpus import Document
from indexes.errors import (
    CollectionBusy,
    DuplicateDocument,
    EncoderMismatch,
    InvalidInput,
)
from indexes.filters import parse_filter
from indexes.snapshot import ChunkCache, Snapshot
from indexes.vectors import VectorSettings
from rag.retrieval.dense import Dense
from rag.values import Query
from tests.fakes import HashingEncoder
from tests.indexes.conftest import Shelf, dense, documents, everywhere

HNSW = VectorSettings(kind="hnsw")


def ids(n: int, first: int = 0) -> set[str]:
    return {f"d{i:04d}" for i in range(first, first + n)}


@pytest.fixture(params=["exact", "hnsw"])
def collection(shelf: Shelf, request: pytest.FixtureRequest) -> Collection:
    shelf.build("c", documents(40), VectorSettings(kind=request.param))
    return shelf.open("c")


def test_a_second_build_serves_from_the_moment_it_is_published(shelf: Shelf) -> None:
    shelf.build("c", documents(5))
    collection = shelf.open("c")
    assert everywhere(collection) == (ids(5),) * 3
    before = collection.snapshot()
    shelf.build("c", documents(9))
    assert collection.snapshot().place.version == 2
    assert everywhere(collection) == (ids(9),) * 3
    assert len(before.search_sparse("hello " + documents(1)[0].text, 10)) <= 5, "who holds the old view still may"
    assert everywhere(shelf.open("c@1")) == (ids(5),) * 3
    assert collection.status().documents == 9


def test_changes_are_seen_at_once_here_and_by_who_opened_before(shelf: Shelf, collection: Collection) -> None:
    other = shelf.open("c")
    assert everywhere(other) == (ids(40),) * 3
    change = collection.add(documents(3, first=100), shelf.encoder)
    assert (change.added, change.updated, change.chunks, change.generation) == (3, 0, 3, 1)
    for reader in (collection, other, shelf.open("c")):
        assert everywhere(reader) == (ids(40) | ids(3, 100),) * 3
    assert collection.delete(["d0101", "d0002", "nobody", "d0002"]).deleted == 2
    for reader in (collection, other, shelf.open("c")):
        assert everywhere(reader) == ((ids(40) | ids(3, 100)) - {"d0101", "d0002"},) * 3
    assert collection.document("d0002") is None
    assert collection.delete(["nobody"]).generation == 2, "nothing changed"


def test_a_deleted_document_can_come_back_with_another_text(shelf: Shelf, collection: Collection) -> None:
    for text in ("hello there", "world peace"):
        collection.add([Document("d0001", "", text)], shelf.encoder)
        collection.delete(["d0001"])
        assert "d0001" not in set.union(*everywhere(collection))
    collection.add([Document("d0001", "", "world again")], shelf.encoder)
    assert [c.doc_id for _, c, _ in collection.snapshot().search_sparse("world", 5)] == ["d0001"]
    assert collection.snapshot().search_sparse("hello", 5) == []
    assert dense(collection, "world again", 1)[0][1].text == "world again"
    assert everywhere(collection) == (ids(40),) * 3


def test_an_update_moves_text_and_metadata(shelf: Shelf, collection: Collection) -> None:
    old, new = parse_filter({"n": 7}), parse_filter({"n": 777})
    assert len(dense_filtered(collection, old)) == 1
    change = collection.add([Document("d0007", "hello", "fresh", {"n": 777})], shelf.encoder)
    assert (change.added, change.updated) == (1, 1)
    assert dense_filtered(collection, old) == []
    assert dense_filtered(collection, new) == ["d0007"]
    assert [c.doc_id for _, c, _ in collection.snapshot().search_sparse("fresh", 9, new)] == ["d0007"]
    document = collection.document("d0007")
    assert document == Document("d0007", "hello", "fresh", {"n": 777})


def dense_filtered(collection: Collection, chosen: object) -> list[str]:
    found = collection.snapshot().search_dense(HashingEncoder().encode_query("x"), 9, chosen)  # type: ignore[arg-type]
    return [chunk.doc_id for _, chunk, _ in found]


def test_filters_are_applied_before_the_cut(collection: Collection) -> None:
    snapshot = collection.snapshot()
    words = " ".join(document.text for document in documents(40))
    chosen = parse_filter({"parity": "odd", "n": {"gte": 20}})
    expected = {f"d{i:04d}" for i in range(21, 40, 2)}
    for k in (1, 5, 10, 100):
        sparse = snapshot.search_sparse(words, k, chosen)
        near = snapshot.search_dense(HashingEncoder().encode_query("x"), k, chosen)
        assert {c.doc_id for _, c, _ in sparse} <= expected
        assert {c.doc_id for _, c, _ in near} <= expected
        assert len(sparse) == min(k, 10)
        assert len(near) >= min(k, 10)
    nothing = parse_filter({"n": -1})
    assert snapshot.search_sparse(words, 5, nothing) == []
    assert snapshot.search_dense(HashingEncoder().encode_query("x"), 5, nothing) == []
    assert snapshot.search_sparse(words, 0) == []


def test_empty_documents_are_kept_without_a_chunk(shelf: Shelf) -> None:
    built = shelf.build("c", [Document("full", "", "hello"), Document("empty", "", "  ")])
    assert (built.manifest.documents, built.manifest.chunks, built.manifest.skipped) == (2, 1, 1)
    collection = shelf.open("c")
    assert collection.document("empty") == Document("empty", "", "  ")
    change = collection.add([Document("void", " ", "\n", {"n": 1})], shelf.encoder)
    assert (change.empty, change.chunks) == (1, 0)
    assert collection.add([Document("full", "", "")], shelf.encoder).updated == 1
    assert everywhere(collection) == (set(), set(), set())
    assert collection.status().documents == 3
    collection.add([Document("void", "", "hello")], shelf.encoder)
    assert everywhere(collection) == ({"void"},) * 3


def test_a_collection_of_empty_documents_can_be_built_and_filled(shelf: Shelf) -> None:
    shelf.build("c", [Document("empty", "", "")], HNSW)
    collection = shelf.open("c")
    assert everywhere(collection) == (set(), set(), set())
    collection.add(documents(3), shelf.encoder)
    assert everywhere(collection) == (ids(3),) * 3


def test_a_document_twice_in_one_request_changes_nothing(shelf: Shelf, collection: Collection) -> None:
    with pytest.raises(DuplicateDocument, match="send each document once"):
        collection.add([Document("x", "", "a"), Document("x", "", "b")], shelf.encoder)
    assert everywhere(collection) == (ids(40),) * 3


def test_a_wrong_encoder_is_refused_for_adding_and_searching(shelf: Shelf, collection: Collection) -> None:
    wrong = HashingEncoder(seed="other")
    with pytest.raises(EncoderMismatch, match=r"hashing-64other.*build the collection again"):
        collection.add(documents(1), wrong)
    with pytest.raises(EncoderMismatch):
        Dense(collection, wrong).retrieve(Query("hello"), 3)
    assert len(Dense(collection, shelf.encoder).retrieve(Query("hello"), 3)) == 3


def test_a_deleted_document_is_gone_before_lucene_has_followed(shelf: Shelf, collection: Collection) -> None:
    place, store = collection.snapshot().place, collection.snapshot().store
    assert everywhere(collection) == (ids(40),) * 3  # all chunks are in the cache now
    with store.writing() as db:
        store.remove(db, ["d0003", "d0004"], 1)
        store.set_state(db, "generation", 1)
    changes.announce(place, store)
    snapshot = collection.snapshot()
    assert len(snapshot.lucene) == 40, "Lucene still knows them"
    assert everywhere(collection) == (ids(40) - {"d0003", "d0004"},) * 3
    text = documents(4)[3].text
    assert len(snapshot.search_sparse(text, 5)) == 5, "k where k exist"
    assert everywhere(shelf.open("c"))[1] == ids(40) - {"d0003", "d0004"}
    assert len(shelf.open("c").snapshot().lucene) == 38, "who opens it finishes what was left"


def test_a_chunk_read_just_before_it_was_deleted_is_not_kept_just_after(collection: Collection) -> None:
    store = collection.snapshot().store
    cache = ChunkCache(store, 1)
    read = store.chunks([4])
    cache.forget([4])
    cache._keep(read)
    with store.writing() as db:
        store.remove(db, ["d0003"], 1)
    gone, kept = cache.get([4, 5])
    assert gone is None
    assert kept is not None


def test_the_chunk_cache_stays_within_its_bound(collection: Collection) -> None:
    cache = ChunkCache(collection.snapshot().store, 0)
    assert all(cache.get(range(1, 41)))
    assert not cache._chunks
    assert cache._size == 0


def test_many_additions_join_their_files_and_leave_no_other_behind(
    shelf: Shelf, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_SEGMENTS", 4)
    directory = collection.snapshot().place.path / "vectors"
    (directory / "000000000077-3.f32").write_bytes(b"left by a killed writer")
    opened = [shelf.open("c") for _ in range(7)]
    for i, reader in enumerate(opened):
        collection.add(documents(2, first=100 + 2 * i), shelf.encoder)
        assert everywhere(reader) == everywhere(collection)
        assert everywhere(reader)[0] >= ids(40) | ids(2, 100 + 2 * i)
        collection.delete([f"d{100 + 2 * i:04d}"])
    expected = ids(40) | {f"d{i:04d}" for i in range(101, 114, 2)}
    for reader in (*opened, shelf.open("c")):
        assert everywhere(reader) == (expected,) * 3
    store = collection.snapshot().store
    assert len(store.segments()) <= 5
    names = {f"{s.first:012d}-{s.length}.f32" for s in store.segments()}
    assert {path.name for path in directory.glob("*.f32")} == names


def test_a_reader_that_meets_a_joining_writer_looks_again(
    shelf: Shelf, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(4):
        collection.add(documents(1, first=100 + i), shelf.encoder)
    late = shelf.open("c").snapshot()
    real, met = Snapshot._part, list[bool]()

    def join_meanwhile(self: Snapshot, *arguments: object, **named: object) -> object:
        if self is late and not met:
            met.append(True)
            monkeypatch.setattr(changes, "MAX_SEGMENTS", 1)
            collection.add(documents(1, first=200), shelf.encoder)
        return real(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Snapshot, "_part", join_meanwhile)
    assert len(late.vectors) == 45
    assert met


def test_eight_threads_search_while_others_add_and_delete(shelf: Shelf) -> None:
    shelf.build("c", documents(60), HNSW)
    collection = shelf.open("c")
    words = " ".join(document.text for document in documents(60))
    vector = shelf.encoder.encode_query(words)
    gone: set[str] = set()
    stop = threading.Event()

    def search() -> int:
        n = 0
        while not stop.is_set():
            before = set(gone)
            for found in (
                collection.snapshot().search_sparse(words, 10),
                collection.snapshot().search_dense(vector, 10),
            ):
                assert len(found) >= 10
                assert not before & {chunk.doc_id for _, chunk, _ in found}
                scores = [score for _, _, score in found]
                assert scores == sorted(scores, reverse=True)
            n += 1
        return n

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(search) for _ in range(8)]
        try:
            for i in range(5):
                collection.add(documents(3, first=1000 + 3 * i), shelf.encoder)
                victims = [f"d{i:04d}", f"d{1000 + 3 * i:04d}"]
                collection.delete(victims)
                gone.update(victims)
        finally:
            stop.set()
        assert all(future.result() > 0 for future in asked)
    assert everywhere(collection) == ((ids(60) | ids(15, 1000)) - gone,) * 3


def test_threads_that_ended_leave_no_open_files(collection: Collection) -> None:
    def ask() -> None:
        collection.snapshot().store.counts()

    def connections() -> int:
        return len(collection.snapshot().store._connections)

    for _ in range(20):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert connections() <= 1


def test_a_writer_that_waits_too_long_says_who_is_at_it(shelf: Shelf, collection: Collection) -> None:
    collection.lock_wait = 0.05
    with shelf.home.lock("c"), pytest.raises(CollectionBusy, match=r"process \d+ is writing to collection 'c'"):
        collection.delete(["d0001"])


def test_a_change_by_alias_goes_where_the_alias_points_once_the_lock_is_held(shelf: Shelf) -> None:
    for name in ("a", "b"):
        shelf.build(name, documents(3))
    shelf.home.set_alias("live", "a")
    b = shelf.open("b")
    thread = threading.Thread(target=shelf.open("live").delete, args=[["d0001"]])
    with shelf.home.lock("b"):
        with shelf.home.lock("a"):
            thread.start()
            time.sleep(0.3)  # it waits for a by now
            shelf.home.set_alias("live", "b")
        time.sleep(0.5)
        assert everywhere(b) == (ids(3),) * 3, "b has another writer"
    thread.join()
    assert everywhere(b) == ({"d0000", "d0002"},) * 3
    assert everywhere(shelf.open("a")) == (ids(3),) * 3


def test_vectors_of_ivfpq_serve_and_take_changes(shelf: Shelf) -> None:
    settings = VectorSettings(kind="ivfpq", pq_bytes=8, ivf_lists=8, ivf_probes=8)
    with pytest.raises(InvalidInput, match="at least 256 chunks"):
        shelf.build("c", documents(100), settings)
    shelf.build("c", documents(300), settings)
    collection = shelf.open("c")
    collection.add(documents(2, first=500), shelf.encoder)
    collection.delete(["d0004"])
    assert everywhere(collection) == ((ids(300) | ids(2, 500)) - {"d0004"},) * 3


def test_exact_scores_are_the_inner_products(shelf: Shelf) -> None:
    shelf.build("c", documents(50))
    texts = {document.id: document.text for document in documents(50)}
    query = shelf.encoder.encode_query(texts["d0007"])
    for _, chunk, score in dense(shelf.open("c"), texts["d0007"], 50):
        assert score == pytest.approx(float(np.dot(query, shelf.encoder.encode_query(texts[chunk.doc_id]))), abs=1e-6)
