"""Documents in and out of a published version, without a rebuild.

SQLite changes first, in one transaction that also counts the generation up. Lucene follows, and its commit names the
generation it followed to; the vectors of new chunks are on the disk before the transaction. Killed at any moment,
a version is either before the change or after it, and ``follow`` brings Lucene to where SQLite is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexes.chunking import Chunking, chunks
from indexes.corpus import Document
from indexes.documents import DocumentStore, Segment
from indexes.durable import space_needed, sync_directory, write_atomic
from indexes.encoding import Matrix, TextEncoder
from indexes.errors import DuplicateDocument
from indexes.home import Place
from indexes.lucene import LuceneWriter
from indexes.manifest import Manifest
from indexes.vectors import checksum, read_segment, segment_path

MAX_SEGMENTS = 32
"""More vector files than this are joined into one, the first (which may have an index) left alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a change did. ``updated`` documents are counted in ``added`` too; ``empty`` ones have no chunk."""

    generation: int
    added: int = 0
    updated: int = 0
    deleted: int = 0
    empty: int = 0
    chunks: int = 0


def add_documents(
    place: Place,
    manifest: Manifest,
    store: DocumentStore,
    documents: Sequence[Document],
    encoder: TextEncoder,
    *,
    note: Mapping[str, int] | None = None,
    progress: Callable[[int], None] | None = None,
    join: bool = True,
) -> Change:
    """Add or replace documents. Raises DuplicateDocument where one id comes twice. Needs the writer's lock.

    note  states of the store that change in the same transaction;  progress  hears how many chunks are encoded
    join  many small vector files become one; who adds much leaves that to ``join_segments``, once
    """
    ids = [document.id for document in documents]
    if repeated := [doc_id for doc_id, n in Counter(ids).items() if n > 1]:
        raise DuplicateDocument(f"document id {repeated[0]!r} occurs twice in one request; send each document once")
    chunking = Chunking(**manifest.chunking)  # type: ignore[arg-type]
    cut = []
    for document in documents:
        cut.append(chunks(document, chunking, encoder.count_tokens))
        if progress:
            progress(0)
    flat = [chunk for part in cut for chunk in part]
    first = store.next_row()
    vectors = encoder.encode_passages([chunk.content for chunk in flat], progress)
    segment = write_segment(place.path / "vectors", first, vectors)
    with store.writing() as db:
        generation = store.state("generation") + 1
        updated = store.remove(db, ids, generation)
        rows = [row for document, part in zip(documents, cut, strict=True) for row in store.insert(db, document, part)]
        assert rows == list(range(first, first + len(flat))), "rows are given out one after another"
        if segment is not None:
            store.add_segment(db, segment)
        store.set_state(db, "generation", generation)
        for name, value in (note or {}).items():
            store.set_state(db, name, value)
    follow(place, store)
    if join:
        join_segments(place, manifest, store)
    empty = sum(not part for part in cut)
    return Change(generation, len(documents), len(updated), 0, empty, len(flat))


def delete_documents(place: Place, store: DocumentStore, doc_ids: Sequence[str]) -> Change:
    """Delete those documents that are there. Needs the writer's lock."""
    with store.writing() as db:
        generation = store.state("generation") + 1
        removed = store.remove(db, list(dict.fromkeys(doc_ids)), generation)
        if not removed:
            return Change(generation - 1)
        store.set_state(db, "generation", generation)
    follow(place, store)
    return Change(generation, deleted=len(removed))


def follow(place: Place, store: DocumentStore) -> None:
    """Bring Lucene to SQLite's generation and tell readers. Doing it twice changes nothing. Needs the writer's lock."""
    announce(place, store)  # deleted chunks vanish at once: every hit is looked up in SQLite
    done, last = store.state("followed"), store.state("followed_row")
    generation = store.state("generation")
    writer = LuceneWriter(place.path / "lucene")
    try:
        writer.delete_from(last + 1)
        writer.delete_rows([row for row, _ in store.dead(since=done)])
        for batch in store.iterate_chunks(after=last):
            writer.add(batch)
            last = batch[-1][0]
        writer.commit(generation)
    except BaseException:
        writer.abandon()
        raise
    writer.close()
    with store.writing() as db:
        store.set_state(db, "followed", generation)
        store.set_state(db, "followed_row", last)
    announce(place, store)


def announce(place: Place, store: DocumentStore) -> None:
    """Touch the file that readers look at before each search."""
    write_atomic(place.path / "generation", f"{store.state('generation')} {store.state('followed')}\n".encode())


def write_segment(directory: Path, first: int, vectors: Matrix) -> Segment | None:
    """The vectors on the disk as one immutable file, or None for no vectors."""
    if not len(vectors):
        return None
    path = segment_path(directory, first, len(vectors))
    with space_needed(directory), path.open("wb") as file:
        file.write(vectors.astype("<f4").tobytes())
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)
    return Segment(first, len(vectors), checksum(path))


def join_segments(place: Place, manifest: Manifest, store: DocumentStore) -> None:
    """Many small vector files become one."""
    segments = store.segments()
    if len(segments) <= MAX_SEGMENTS:
        return
    small, directory = segments[1:], place.path / "vectors"
    parts = [read_segment(directory, segment, manifest.dimension, verify=True) for segment in small]
    joined = write_segment(directory, small[0].first, np.concatenate(parts))
    assert joined is not None
    with store.writing() as db:
        db.execute("DELETE FROM segment WHERE first >= ?", (joined.first,))
        store.add_segment(db, joined)
    announce(place, store)
    living = {segment_path(directory, segment.first, segment.length) for segment in store.segments()}
    for path in directory.glob("*.f32"):  # also what a killed writer left
        if path not in living:
            path.unlink(missing_ok=True)
