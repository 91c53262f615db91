"""One job from its documents to a published version, and to chunks the language model has read."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing

from indexes import jvm
from indexes.build import BuildSettings, Built, build
from indexes.chunking import Chunking
from indexes.corpus import Chunk
from indexes.documents import DocumentStore
from indexes.extend import extend
from indexes.home import Place
from indexes.manifest import read_manifest
from rag.assemble import Engine, vector_settings
from rag.config import LEXICAL, IndexConfig
from rag.errors import CacheUnavailable, CollectionBusy, CollectionError, InvalidConfig, ModelNotAvailable
from rag.jobs.control import Control, JobCancelled, JobSuspended
from rag.jobs.record import Job
from rag.jobs.source import JobSource, open_job
from rag.jobs.store import JobStore
from rag.kv.warm import warm
from rag.runtime.meter import Cancelled, Meter, cancelled

log = logging.getLogger(__name__)


class Work:
    """The steps of one job, on the thread that runs it; doing them again does what is left of them."""

    def __init__(self, engine: Engine, store: JobStore, job: Job, control: Control) -> None:
        self.engine, self.store, self.job, self.control = engine, store, job, control
        self.home, self.bounds = engine.home, engine.settings.jobs

    def run(self) -> tuple[str, ...]:
        """Notes of what went less than well. Raises JobCancelled, JobSuspended, and what builds raise."""
        before = self._current()
        place = before if before is not None and self._made(before) else None
        if place is None:
            self.store.clear_log(self.job.id)
            place = self._publish(before)
        self.store.update(self.job.id, version=place.version)
        with contextlib.suppress(JobCancelled):
            notes = [self._forget(place), self._warm(place)]
            return tuple(filter(None, notes))
        return ("it was cancelled when its documents were published already; they stay",)

    def _current(self) -> Place | None:
        name = self.job.collection
        return self.home.resolve(name) if name in self.home.names() else None

    def _made(self, place: Place) -> bool:
        """True where this job made the version that serves: the server ended before it could say so."""
        with contextlib.suppress(CollectionError):
            return read_manifest(place.path).source == self.job.source
        return False

    def _publish(self, before: Place | None) -> Place:
        spool = self.store.directory / self.job.id
        source = open_job(self.job, spool, self.control, self.bounds)
        jvm.configure(self.engine.settings.index.java_heap_mb)
        try:
            built = self._built(source, extends=before is not None and self.job.mode == "add")
        except JobCancelled:
            self._discard()
            raise
        for one in built.skipped:
            if one not in source.reported:  # what the build itself refused
                self.control.skip(one)
        self.control.flush()
        self.store.update(self.job.id, skipped=self.control.count)
        return built.place

    def _built(self, source: JobSource, *, extends: bool) -> Built:
        name, encoder, progress = self.job.collection, self.engine.encoder, self.control.progress
        if extends:
            return extend(self.home, name, source, encoder, progress)
        return build(self.home, name, source, encoder, self._settings(), progress)

    def _settings(self) -> BuildSettings:
        chosen: IndexConfig = self.engine.settings.index
        kind = self.job.chunking or chosen.chunking
        if kind == "auto":
            kind = "headings" if self.job.kind == "files" else "sentences"
        chunking = Chunking(kind, chosen.chunk_tokens, chosen.chunk_overlap)  # type: ignore[arg-type]
        return BuildSettings(chunking=chunking, vectors=vector_settings(chosen), duplicates="skip")

    def _discard(self) -> None:
        """What a cancelled job had built."""
        with contextlib.suppress(CollectionBusy), self.home.lock(self.job.collection):
            shutil.rmtree(self.home.building(self.job.collection), ignore_errors=True)
            if not (self.home.directory(self.job.collection) / "current").exists():
                shutil.rmtree(self.home.directory(self.job.collection), ignore_errors=True)

    # --- states of the language model ---

    def _forget(self, place: Place) -> str:
        """Have what was read of replaced documents forgotten; what went wrong, "" where all went well."""
        caching = self.engine.caching
        older = [version for version in self.home.versions(place.name) if version < place.version]
        if not older or caching.store is None or not caching.holds:
            return ""
        path = self.home.directory(place.name) / "versions" / str(older[-1])
        with (
            closing(DocumentStore(path / "documents.sqlite")) as old,
            closing(DocumentStore(place.path / "documents.sqlite")) as new,
        ):
            return caching.forget(_gone(old, new, self.control.go_on)).trouble

    def _warm(self, place: Place) -> str:
        """Have the model read the chunks that it has not; a model or store that fails is a note, the job is done."""
        settings, caching = self.engine.settings, self.engine.caching
        model = settings.model.name
        if not self.bounds.read_ahead or settings.cache.mode == "off" or model in ("", LEXICAL):
            return ""
        try:
            if caching.store is None:
                return ""
            library, form = caching.library(), caching.form()
            wanted: list[tuple[int, ...]] = []
            with closing(DocumentStore(place.path / "documents.sqlite")) as store:
                for part in store.iterate_chunks():
                    self.control.go_on()
                    wanted += caching.passages(library, [chunk for _, chunk in part], form)
            cancelled.set(self._unwanted)
            warm(library, wanted, Meter(), progress=lambda done, total: self.control.progress("warm", done, total))
        except Cancelled:
            self.control.check()
            raise
        except (CacheUnavailable, ModelNotAvailable, InvalidConfig) as error:
            log.warning("job %s: chunks are not read ahead: %s", self.job.id, error)
            return f"chunks are not read ahead: {str(error).partition(' (')[0]}"
        finally:
            cancelled.set(None)
        return ""

    def _unwanted(self) -> bool:
        """Asked by the language model between its passes."""
        try:
            self.control.check()
        except (JobCancelled, JobSuspended):
            return True
        return False


def _gone(old: DocumentStore, new: DocumentStore, check: Callable[[], None]) -> Iterator[Chunk]:
    """Chunks of the old store that the new one has not, or has with another text."""
    for part in old.iterate_chunks(size=500):
        check()
        chunks = [chunk for _, chunk in part]
        there = {chunk.id: chunk.titled for chunk in new.chunks_of({chunk.doc_id for chunk in chunks})}
        yield from (chunk for chunk in chunks if there.get(chunk.id) != chunk.titled)
