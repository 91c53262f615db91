"""An extended collection finds what one built anew from all documents finds, and only the new ones are encoded."""

from __future__ import annotations

import pytest

from indexes.collection import Collection
from indexes.errors import CollectionNotFound, EncoderMismatch, InvalidInput
from indexes.extend import extend
from indexes.vectors import VectorSettings
from tests.fakes import HashingEncoder, ListSource
from tests.indexes.conftest import Shelf, dense, documents, everywhere

OLD, NEW = documents(40), documents(330, seed=3, first=30)  # ten of the new ones replace old ones


def ranked(collection: Collection, text: str) -> list[tuple[str, float]]:
    """Dense hits by id, which rows do not decide."""
    return sorted((chunk.id, round(score, 5)) for _, chunk, score in dense(collection, text, 10**6))


@pytest.mark.parametrize("vectors", [VectorSettings(kind="exact"), VectorSettings(kind="hnsw")])
def test_extended_is_as_built_from_all(shelf: Shelf, vectors: VectorSettings) -> None:
    shelf.build("c", OLD, vectors)
    collection = shelf.open("c")
    before = everywhere(collection)
    shelf.encoder.encoded.clear()
    built = extend(shelf.home, "c", ListSource(NEW), shelf.encoder)
    assert sorted(shelf.encoder.encoded) == sorted(document.text for document in NEW)
    assert (built.place.version, built.manifest.source, built.skipped) == (2, "list", ())
    latest = {document.id: document for document in [*OLD, *NEW]}
    shelf.build("anew", list(latest.values()), vectors)
    anew = shelf.open("anew")
    assert everywhere(collection) == everywhere(anew) != before
    assert (built.manifest.documents, built.manifest.chunks) == anew.snapshot().store.counts()
    for document in latest.values():
        assert collection.document(document.id) == document
    for text in (OLD[0].text, NEW[3].text):
        found, wanted = ({hit[0]: hit[1] for hit in ranked(one, text)} for one in (collection, anew))
        assert found == wanted


def test_the_version_that_served_is_as_it_was(shelf: Shelf) -> None:
    shelf.build("c", OLD)
    first = everywhere(shelf.open("c@1"))
    extend(shelf.home, "c", ListSource(NEW), shelf.encoder)
    shelf.open("c").delete([NEW[-1].id])
    assert everywhere(shelf.open("c@1")) == first
    assert shelf.open("c@1").document(OLD[35].id) == OLD[35]


def test_of_an_id_that_comes_twice_the_first_stays_across_batches_too(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexes.extend.BATCH", 4)
    shelf.build("c", OLD)
    first, second = documents(6, seed=8, first=100), documents(6, seed=9, first=100)
    built = extend(shelf.home, "c", ListSource([*first, *second, second[5]]), shelf.encoder)
    assert [one.where for one in built.skipped] == [f"document {document.id!r}" for document in [*second, second[5]]]
    assert [shelf.open("c").document(document.id) for document in first] == first


def test_what_changed_between_two_runs_is_not_lost(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, then documents come and go by themselves: the copy is of another state and made anew."""
    monkeypatch.setattr("indexes.extend.BATCH", 50)
    shelf.build("c", OLD)

    def stop(step: str, done: int, total: int | None) -> None:
        if done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extend(shelf.home, "c", ListSource(NEW), shelf.encoder, stop)
    extra = documents(1, seed=5, first=900)
    shelf.open("c").add(extra, shelf.encoder)
    shelf.open("c").delete([OLD[0].id])
    built = extend(shelf.home, "c", ListSource(NEW), shelf.encoder)
    assert not built.resumed
    expected = {document.id for document in [*OLD[1:], *NEW, *extra]}
    assert everywhere(shelf.open("c")) == (expected,) * 3


def test_nothing_is_published_where_nothing_can_be_added(shelf: Shelf) -> None:
    with pytest.raises(CollectionNotFound):
        extend(shelf.home, "c", ListSource(NEW), shelf.encoder)
    shelf.build("c", OLD)
    with pytest.raises(InvalidInput, match="holds no document"):
        extend(shelf.home, "c", ListSource([]), shelf.encoder)
    with pytest.raises(EncoderMismatch, match="configure that encoder"):
        extend(shelf.home, "c", ListSource(NEW), HashingEncoder(32))
    assert shelf.home.versions("c") == [1]
