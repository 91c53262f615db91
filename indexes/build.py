"""Builds a version of a collection in a directory aside, resumes where it was stopped, and publishes it whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from itertools import islice
from typing import Literal

from indexes.chunking import Chunking, chunks
from indexes.corpus import Document
from indexes.documents import DocumentStore, Segment
from indexes.durable import space_needed, sync_directory, write_atomic
from indexes.encoding import TextEncoder
from indexes.errors import CollectionDamaged, DuplicateDocument, InvalidInput
from indexes.home import UNFINISHED, Home, Place
from indexes.lucene import LuceneWriter
from indexes.manifest import FORMAT, Manifest
from indexes.readers.source import Skipped, Source
from indexes.vectors import Kind, VectorSettings, build_ann, checksum, read_segment, segment_path, write_ann

Progress = Callable[[str, int, int | None], None]
"""Called with a step's name, how much of it is done, and how much there is (None: not known)."""

READ_BATCH = 500
ENCODE_BATCH = 2048


def silent(step: str, done: int, total: int | None) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """``duplicates``: an id that comes twice stops the build, or the first document is kept and the rest reported."""

    chunking: Chunking
    vectors: VectorSettings = VectorSettings()
    duplicates: Literal["error", "skip"] = "error"


@dataclass(frozen=True, slots=True)
class Built:
    """A published build. ``skipped`` holds everything that could not be taken in, with the reason."""

    place: Place
    manifest: Manifest
    skipped: tuple[Skipped, ...]
    resumed: bool


@dataclass(slots=True)
class _Reading:
    """What reading has seen so far. ``refused`` counts readable documents that gave no chunk, in earlier runs too."""

    skipped: list[Skipped] = field(default_factory=list)
    consumed: int = 0
    refused: int = 0


def build(
    home: Home,
    name: str,
    source: Source,
    encoder: TextEncoder,
    settings: BuildSettings,
    progress: Progress = silent,
) -> Built:
    """Build the next version of a collection and make it the one that serves.

    Whatever happens before the last step, the version that served before goes on serving. Raises CollectionBusy
    where another process builds, StorageFull, DuplicateDocument, and InvalidInput for a source without documents.
    """
    with home.lock(name):
        return _Build(home, name, source, encoder, settings, progress).run()


class _Build:
    def __init__(
        self,
        home: Home,
        name: str,
        source: Source,
        encoder: TextEncoder,
        settings: BuildSettings,
        progress: Progress,
    ) -> None:
        self.home, self.name, self.source, self.encoder = home, name, source, encoder
        self.settings, self.progress = settings, progress
        self.directory = home.building(name)
        self.fingerprint = source.fingerprint()
        self.seconds: dict[str, float] = {}
        self.reading = _Reading()

    def run(self) -> Built:
        self.home.refuse_alias(self.name)
        self.home.reclaim(self.name)
        resumed = self._prepare()
        store = DocumentStore(self.directory / "documents.sqlite", create=True)
        try:
            for step, work in (("read", self._read), ("lucene", self._index), ("encode", self._encode)):
                started = time.perf_counter()
                work(store)
                self.seconds[step] = round(time.perf_counter() - started, 3)
            manifest = self._finish(store)
        finally:
            store.close()
        for leftover in ("documents.sqlite-wal", "documents.sqlite-shm"):
            (self.directory / leftover).unlink(missing_ok=True)
        place = self.home.publish(self.name, self.directory)
        (place.path / UNFINISHED).unlink(missing_ok=True)
        return Built(place, manifest, tuple(self.reading.skipped), resumed)

    def _prepare(self) -> bool:
        """Make or keep the building directory. True where an unfinished build of the same thing goes on."""
        plan = {
            "format": FORMAT,
            "source": self.source.name,
            "fingerprint": self.fingerprint,
            "chunking": asdict(self.settings.chunking),
            "encoder": self.encoder.fingerprint,
        }
        noted = self.directory / UNFINISHED
        with contextlib.suppress(OSError, ValueError, CollectionDamaged):
            if json.loads(noted.read_bytes()) == plan:
                with contextlib.closing(DocumentStore(self.directory / "documents.sqlite", create=True)) as store:
                    store.check()
                return True
        with space_needed(self.home.root):
            shutil.rmtree(self.directory, ignore_errors=True)
            (self.directory / "vectors").mkdir(parents=True)
        write_atomic(noted, json.dumps(plan).encode())
        return False

    # --- read and cut ---

    def _read(self, store: DocumentStore) -> None:
        """Documents and chunks into SQLite, a transaction a batch; a resumed build passes over what is there."""
        if store.state("read"):
            return
        total, done = self.source.count(), store.state("consumed")
        documents = self.source.documents(self.reading.skipped.append)
        self.reading.consumed = sum(1 for _ in islice(documents, done))
        before = self.reading.refused = store.state("refused")
        while batch := list(islice(documents, READ_BATCH)):
            with store.writing() as db:
                for document in batch:
                    self._take_in(store, db, document)
                self.reading.consumed += len(batch)
                store.set_state(db, "consumed", self.reading.consumed)
                store.set_state(db, "refused", self.reading.refused)
            self.progress("read", self.reading.consumed, total)
        if not store.counts()[0]:
            raise InvalidInput(f"{self.source.name} holds no document that could be read; nothing was built")
        with store.writing() as db:
            store.set_state(db, "read", 1)
            store.set_state(db, "skipped", len(self.reading.skipped) + before)

    def _take_in(self, store: DocumentStore, db: sqlite3.Connection, document: Document) -> None:
        cut = chunks(document, self.settings.chunking, self.encoder.count_tokens)
        try:
            store.insert(db, document, cut)
        except DuplicateDocument as error:
            if self.settings.duplicates == "error":
                raise DuplicateDocument(
                    f"{error}; nothing was published. Mend the source, or keep the first of each: --duplicates skip"
                ) from error
            self._refuse(document, "its id came before; the first one is kept")
        else:
            if not cut:
                self._refuse(document, "it is empty: kept, but has no chunk")

    def _refuse(self, document: Document, why: str) -> None:
        self.reading.skipped.append(Skipped(f"document {document.id!r}", why))
        self.reading.refused += 1

    # --- the two indexes ---

    def _index(self, store: DocumentStore) -> None:
        """Lucene is quick beside the encoder, so an unfinished index is made anew."""
        if store.state("followed_row"):
            return
        shutil.rmtree(self.directory / "lucene", ignore_errors=True)
        total, last, done = store.counts()[1], 0, 0
        writer = LuceneWriter(self.directory / "lucene")
        try:
            for batch in store.iterate_chunks():
                writer.add(batch)
                last, done = batch[-1][0], done + len(batch)
                self.progress("lucene", done, total)
            writer.commit(0)
        except BaseException:
            writer.abandon()
            raise
        writer.close()
        with store.writing() as db:
            store.set_state(db, "followed_row", last)

    def _encode(self, store: DocumentStore) -> None:
        """Vectors in the order of the rows, appended batch by batch.

        What is on the disk for certain is kept, so a resumed build cuts the same batches and gives the same vectors.
        """
        total = store.counts()[1]
        if store.segments() or not total:
            return
        path, width = segment_path(self.directory / "vectors", 1, total), self.encoder.dimension * 4
        with space_needed(path.parent), path.open("ab") as file:
            done = store.state("encoded") if file.tell() >= store.state("encoded") * width else 0
            file.truncate(done * width)
            for batch in store.iterate_chunks(after=done, size=ENCODE_BATCH):
                vectors = self.encoder.encode_passages(
                    [chunk.content for _, chunk in batch], self._encoded(done, total)
                )
                file.write(vectors.astype("<f4").tobytes())
                file.flush()
                os.fsync(file.fileno())
                done += len(batch)
                with store.writing() as db:
                    store.set_state(db, "encoded", done)
        assert done == total, "every chunk has a vector, rows without gaps"
        with store.writing() as db:
            store.add_segment(db, Segment(1, total, checksum(path)))
        sync_directory(path.parent)

    def _encoded(self, before: int, total: int) -> Callable[[int], None]:
        return lambda done: self.progress("encode", before + done, total)

    # --- the end ---

    def _finish(self, store: DocumentStore) -> Manifest:
        documents, total = store.counts()
        kind = self.settings.vectors.resolve(total)
        started = time.perf_counter()
        ann = self._write_ann(store, kind)
        self.seconds["ann"] = round(time.perf_counter() - started, 3)
        skipped = store.state("skipped")
        store.checkpoint()
        manifest = Manifest(
            name=self.name,
            source=self.source.name,
            fingerprint=self.fingerprint,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            kvasir=installed_version("kvasir"),
            documents=documents,
            chunks=total,
            skipped=skipped,
            encoder=self.encoder.fingerprint,
            dimension=self.encoder.dimension,
            vectors=kind,
            chunking=asdict(self.settings.chunking),
            ann_checksum=ann,
            seconds=self.seconds,
        )
        write_atomic(self.directory / "generation", b"0 0\n")
        manifest.write(self.directory)
        return manifest

    def _write_ann(self, store: DocumentStore, kind: Kind) -> str:
        """Checksum of the approximate index, "" where the search is exact."""
        directory, segments = self.directory / "vectors", store.segments()
        if kind == "exact" or not segments:
            return ""
        self.progress("ann", 0, None)
        vectors = read_segment(directory, segments[0], self.encoder.dimension, verify=False)
        path = directory / "ann.faiss"
        with space_needed(directory):
            write_ann(build_ann(vectors, kind, self.settings.vectors), path)
        return checksum(path)
