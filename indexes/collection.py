"""An open collection: hands out snapshots, and takes documents in and out without a rebuild."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from indexes.changes import Change, add_documents, delete_documents, follow
from indexes.corpus import Document
from indexes.documents import DocumentStore
from indexes.encoding import TextEncoder
from indexes.errors import CollectionBusy, CollectionNotFound, StorageFull
from indexes.home import Home, Place
from indexes.manifest import NAME as MANIFEST
from indexes.manifest import Manifest, read_manifest
from indexes.snapshot import ChunkCache, ReadSettings, Snapshot


@dataclass(frozen=True, slots=True)
class Status:
    """What a collection holds now."""

    name: str
    version: int
    generation: int
    documents: int
    chunks: int
    manifest: Manifest


Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class _Open:
    """An open version. ``stamp`` is how the ``watched`` files looked when the snapshot was taken; ``built`` is the
    manifest's place on the disk, which tells a version from one that took its number after a drop."""

    built: tuple[int, int, int] | None
    watched: tuple[str, ...]
    stamp: Stamp
    snapshot: Snapshot
    cache: ChunkCache


class Collection:
    """A collection by name, alias or ``name@version``. Threads may share it.

    Changes made by any process are seen by the next call of ``snapshot``: two small files are looked at each time.
    """

    def __init__(self, home: Home, reference: str, settings: ReadSettings | None = None) -> None:
        self.home = home
        self.reference = reference
        self.settings = settings or ReadSettings()
        self._lock = threading.Lock()
        self._open: _Open | None = None

    def snapshot(self) -> Snapshot:
        """The newest published state. Raises CollectionNotFound, CollectionDamaged, FormatNotSupported."""
        opened = self._open
        if opened is not None and opened.stamp == _stamp(opened.watched):
            return opened.snapshot
        with self._lock:
            try:
                place = self.home.resolve(self.reference)
            except CollectionNotFound:
                self._open = None
                raise
            watched = self._watched(place)
            stamp = _stamp(watched)
            opened = self._open
            if opened is None or opened.watched != watched or opened.stamp != stamp:
                opened = self._reopen(place, watched, stamp, opened)
                self._open = opened
            return opened.snapshot

    def latest(self) -> Snapshot:
        """The snapshot that was handed out last, without a look at the disk; the newest where there was none."""
        opened = self._open
        return self.snapshot() if opened is None else opened.snapshot

    def _watched(self, place: Place) -> tuple[str, ...]:
        """The files that change whenever another snapshot is due; as strings, since every search looks at them."""
        directory = self.home.directory(place.name)
        return (f"{directory}/current", f"{place.path}/generation", f"{self.home.root}/aliases.json")

    def _reopen(self, place: Place, watched: tuple[str, ...], stamp: Stamp, before: _Open | None) -> _Open:
        built = _look(os.fspath(place.path / MANIFEST))
        if before is not None and before.snapshot.place == place and before.built == built:
            manifest, store, cache = before.snapshot.manifest, before.snapshot.store, before.cache
            snapshot = Snapshot(place, manifest, store, cache, self.settings, before.snapshot)
            return _Open(built, watched, stamp, snapshot, cache)
        manifest = read_manifest(place.path)
        store = DocumentStore(place.path / "documents.sqlite")
        if self.settings.verify:
            store.check()
        self._catch_up(place, store)
        cache = ChunkCache(store, self.settings.chunk_cache_mb)
        return _Open(built, watched, stamp, Snapshot(place, manifest, store, cache, self.settings), cache)

    def _catch_up(self, place: Place, store: DocumentStore) -> None:
        """Finish what a killed writer left half done, unless a living one is at it or the disk has no room.

        Until it is done, what was deleted is not shown, and what was added is found by its vectors only.
        """
        if not store.state("generation") or store.state("generation") == store.state("followed"):
            return
        with contextlib.suppress(CollectionBusy, StorageFull), self.home.lock(place.name):
            follow(place, store)

    def status(self) -> Status:
        snapshot = self.snapshot()
        documents, chunks = snapshot.store.counts()
        place = snapshot.place
        return Status(place.name, place.version, snapshot.generation, documents, chunks, snapshot.manifest)

    def add(self, documents: Sequence[Document], encoder: TextEncoder) -> Change:
        """Add documents; one whose id is already there replaces it. Visible when this returns."""
        with self._writing() as snapshot:
            snapshot.check_encoder(encoder)
            return add_documents(snapshot.place, snapshot.manifest, snapshot.store, documents, encoder)

    def delete(self, doc_ids: Sequence[str]) -> Change:
        """Delete documents; ids that are not there are not counted. Gone everywhere when this returns."""
        with self._writing() as snapshot:
            return delete_documents(snapshot.place, snapshot.store, doc_ids)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Snapshot]:
        """Be the one writer of what the reference means now; an alias may move while the lock is waited for."""
        while True:
            name = self.home.resolve(self.reference).name
            with self.home.lock(name, wait=self.lock_wait):
                snapshot = self.snapshot()
                if snapshot.place.name == name:
                    yield snapshot
                    return

    lock_wait = 10.0
    """Seconds a change waits for another writer before it raises CollectionBusy."""

    def document(self, doc_id: str) -> Document | None:
        return self.snapshot().store.document(doc_id)


def _stamp(watched: tuple[str, ...]) -> Stamp:
    return tuple([_look(path) for path in watched])


def _look(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
