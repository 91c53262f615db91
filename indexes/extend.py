"""The next version of a collection: the one that serves, and more documents. Nothing is encoded twice.

The version that serves is copied (files that never change are linked), the copy takes the documents in, and is
published as a build is: whole, by one rename. Stopped, the same call goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from itertools import islice
from pathlib import Path

from indexes.build import Built, Progress, silent
from indexes.changes import add_documents, follow, join_segments
from indexes.corpus import Document
from indexes.documents import DocumentStore
from indexes.durable import space_needed, sync_tree, write_atomic
from indexes.encoding import TextEncoder
from indexes.errors import CollectionDamaged, EncoderMismatch, InvalidInput
from indexes.home import UNFINISHED, Home, Place
from indexes.manifest import FORMAT, Manifest, read_manifest
from indexes.readers.source import Report, Skipped, Source

BATCH = 128
_CONSUMED, _BASE = "extension_consumed", "extension_base"


def extend(home: Home, name: str, source: Source, encoder: TextEncoder, progress: Progress = silent) -> Built:
    """Add a source's documents and publish; one whose id is there is replaced, of one that comes twice the first stays.

    Whatever happens before the last step, the version that served before goes on serving. Raises CollectionNotFound,
    CollectionBusy where another process writes, EncoderMismatch, StorageFull, and InvalidInput for a source without
    documents.
    """
    with home.lock(name):
        return _Extension(home, name, source, encoder, progress).run()


class _Extension:
    def __init__(self, home: Home, name: str, source: Source, encoder: TextEncoder, progress: Progress) -> None:
        self.home, self.name, self.source, self.encoder, self.progress = home, name, source, encoder, progress
        self.directory = home.building(name)
        self.skipped: list[Skipped] = []

    def run(self) -> Built:
        started = time.perf_counter()
        self.home.refuse_alias(self.name)
        self.home.reclaim(self.name)
        base = self.home.resolve(self.name)
        manifest = read_manifest(base.path)
        if manifest.encoder != self.encoder.fingerprint:
            raise EncoderMismatch(
                f"collection {self.name!r} was built with encoder {manifest.encoder}, configured is "
                f"{self.encoder.fingerprint}; configure that encoder, or build the collection again"
            )
        resumed = self._prepare(base)
        store = DocumentStore(self.directory / "documents.sqlite")
        try:
            self._add(store, manifest)
            made = self._described(store, manifest, time.perf_counter() - started)
            store.checkpoint()
        finally:
            store.close()
        for leftover in ("documents.sqlite-wal", "documents.sqlite-shm"):
            (self.directory / leftover).unlink(missing_ok=True)
        made.write(self.directory)
        place = self.home.publish(self.name, self.directory)
        (place.path / UNFINISHED).unlink(missing_ok=True)
        return Built(place, made, tuple(self.skipped), resumed)

    # --- the copy ---

    def _prepare(self, base: Place) -> bool:
        """Copy the version that serves. True where a copy of the same state for the same source goes on."""
        old = DocumentStore(base.path / "documents.sqlite")
        try:
            if old.state("generation") != old.state("followed"):
                follow(base, old)
            plan = {
                "format": FORMAT,
                "extends": base.version,
                "generation": old.state("generation"),
                "source": self.source.name,
                "fingerprint": self.source.fingerprint(),
                "encoder": self.encoder.fingerprint,
            }
            noted = self.directory / UNFINISHED
            with contextlib.suppress(OSError, ValueError, CollectionDamaged):
                if json.loads(noted.read_bytes()) == plan:
                    with contextlib.closing(DocumentStore(self.directory / "documents.sqlite")) as store:
                        store.check()
                    return True
            with space_needed(self.home.root):
                shutil.rmtree(self.directory, ignore_errors=True)
                self.directory.mkdir(parents=True)
                self._copy(base, old)
                sync_tree(self.directory)
            write_atomic(noted, json.dumps(plan).encode())
        finally:
            old.close()
        return False

    def _copy(self, base: Place, old: DocumentStore) -> None:
        old.copy_to(self.directory / "documents.sqlite")
        for path in sorted(base.path.rglob("*")):
            name = path.relative_to(base.path)
            if path.is_dir():
                (self.directory / name).mkdir(exist_ok=True)
            elif not name.as_posix().startswith(("documents.sqlite", UNFINISHED)) and path.name != "write.lock":
                _link(path, self.directory / name)
        with contextlib.closing(DocumentStore(self.directory / "documents.sqlite")) as store, store.writing() as db:
            store.set_state(db, _CONSUMED, 0)
            store.set_state(db, _BASE, store.last_document())

    # --- the documents ---

    def _add(self, store: DocumentStore, manifest: Manifest) -> None:
        place = Place(self.name, 0, self.directory)
        if store.state("generation") != store.state("followed"):
            follow(place, store)
        total, done, base = self.source.count(), store.state(_CONSUMED), store.state(_BASE)
        documents = self.source.documents(self.skipped.append)
        for _ in islice(documents, done):
            pass
        self.progress("add", done, total)
        while batch := list(islice(documents, BATCH)):
            fresh = _once(batch, store.documents_after(base, [one.id for one in batch]), self.skipped.append)
            add_documents(
                place,
                manifest,
                store,
                fresh,
                self.encoder,
                note={_CONSUMED: done + len(batch)},
                progress=self._within(done, total),
                join=False,
            )
            done += len(batch)
            self.progress("add", done, total)
        join_segments(place, manifest, store)
        if not done:
            raise InvalidInput(f"{self.source.name} holds no document that could be read; nothing was published")

    def _within(self, done: int, total: int | None) -> Callable[[int], None]:
        """Progress within a batch, known only as that of its chunks: it counts as none of its documents."""
        return lambda _: self.progress("add", done, total)

    def _described(self, store: DocumentStore, before: Manifest, seconds: float) -> Manifest:
        documents, chunks = store.counts()
        return replace(
            before,
            source=self.source.name,
            fingerprint=self.source.fingerprint(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            kvasir=installed_version("kvasir"),
            documents=documents,
            chunks=chunks,
            skipped=len(self.skipped),
            seconds={"add": round(seconds, 3)},
        )


def _once(batch: Sequence[Document], there: Sequence[str], skipped: Report) -> list[Document]:
    """The documents whose id did not come before: in an earlier batch, or in this one."""
    seen, fresh = set(there), []
    for document in batch:
        if document.id in seen:
            skipped(Skipped(f"document {document.id!r}", "its id came before; the first one is kept"))
            continue
        seen.add(document.id)
        fresh.append(document)
    return fresh


def _link(path: Path, target: Path) -> None:
    """The same file where the disk can do that: what is linked here is replaced, never written to."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
