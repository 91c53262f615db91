"""A point-in-time view of one version: what every retriever searches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from indexes.corpus import Chunk
from indexes.documents import DocumentStore, Rows, Segment
from indexes.encoding import Matrix, TextEncoder
from indexes.errors import CollectionDamaged, EncoderMismatch
from indexes.filters import Filter
from indexes.home import Place
from indexes.lucene import Bm25Parameters, LuceneSearcher, allow_rows
from indexes.manifest import Manifest
from indexes.vectors import VectorIndex, VectorSettings, checksum, read_ann, read_segment

Found = list[tuple[int, Chunk, float]]
"""(row, chunk, score), best first."""

MAX_CACHED_FILTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """How a version is opened. ``verify`` reads every file once and compares its checksum."""

    bm25: Bm25Parameters = Bm25Parameters()
    vectors: VectorSettings = VectorSettings()
    verify: bool = True
    chunk_cache_mb: int = 256


class ChunkCache:
    """Chunks by row, bounded in bytes; the oldest go first. Shared by the snapshots of one version."""

    def __init__(self, store: DocumentStore, megabytes: int) -> None:
        self._store = store
        self._limit = megabytes * 2**20
        self._size = 0
        self._chunks: dict[int, Chunk] = {}
        self._lock = threading.Lock()

    def get(self, rows: Iterable[int]) -> dict[int, Chunk]:
        """The chunks of those rows that exist."""
        known = self._chunks
        found = {row: known.get(row) for row in rows}
        if missing := [row for row, chunk in found.items() if chunk is None]:
            read = self._store.chunks(missing)
            self._keep(read)
            found.update(read)
        return {row: chunk for row, chunk in found.items() if chunk is not None}

    def _keep(self, chunks: dict[int, Chunk]) -> None:
        with self._lock:
            for row, chunk in chunks.items():
                if row not in self._chunks:
                    self._chunks[row] = chunk
                    self._size += _weight(chunk)
            while self._size > self._limit and self._chunks:
                self._size -= _weight(self._chunks.pop(next(iter(self._chunks))))

    def forget(self, rows: Iterable[int]) -> None:
        with self._lock:
            for row in rows:
                if (chunk := self._chunks.pop(row, None)) is not None:
                    self._size -= _weight(chunk)


def _weight(chunk: Chunk) -> int:
    return 400 + 2 * len(chunk.text)  # the objects around it, and mostly-Latin text


class Snapshot:
    """One generation of one version. Lucene and the vectors are opened when first searched.

    ``before`` is the snapshot of an older generation of the same version: what has not changed is taken from it.
    """

    def __init__(
        self,
        place: Place,
        manifest: Manifest,
        store: DocumentStore,
        cache: ChunkCache,
        settings: ReadSettings,
        before: Snapshot | None = None,
    ) -> None:
        self.place = place
        self.manifest = manifest
        self.store = store
        self.settings = settings
        self.generation = store.state("generation")
        self._verify = settings.verify and before is None
        self._cache = cache
        self._lock = threading.Lock()
        self._filters: dict[Filter, Allowed] = {}
        self._take_over(before)

    def _take_over(self, before: Snapshot | None) -> None:
        if before is None:
            return
        self._cache.forget(row for row, _ in self.store.dead(since=before.generation))
        if "vectors" in before.__dict__:
            old = before.vectors
            new = [part for s in self.store.segments() if (part := self._part(s, after=old.last_row)) is not None]
            self.__dict__["vectors"] = old.after(new, (row for row, _ in self.store.dead()))

    # --- the parts ---

    @cached_property
    def lucene(self) -> LuceneSearcher:
        with self._lock:
            searcher = LuceneSearcher(self.place.path / "lucene", self.settings.bm25)
            if self._verify:
                searcher.verify()
            return searcher

    @cached_property
    def vectors(self) -> VectorIndex:
        with self._lock:
            parts = [part for s in self.store.segments() if (part := self._part(s, after=0)) is not None]
            dead = (row for row, _ in self.store.dead())
            return VectorIndex(self.manifest.dimension, parts, dead, self._read_ann(), self.settings.vectors)

    def _part(self, segment: Segment, *, after: int) -> tuple[Rows, Matrix] | None:
        """The rows of a segment above ``after`` with their vectors."""
        rows = np.arange(segment.first, segment.first + segment.length, dtype=np.int64)
        if rows[-1] <= after:
            return None
        mapped = self.manifest.vectors == "ivfpq"
        directory, verify = self.place.path / "vectors", self.settings.verify
        matrix = read_segment(directory, segment, self.manifest.dimension, verify=verify, mapped=mapped)
        return rows[rows > after], matrix[rows > after]

    def _read_ann(self) -> Any:
        if not self.manifest.ann_checksum:
            return None
        path = self.place.path / "vectors" / "ann.faiss"
        if self.settings.verify and (not path.is_file() or checksum(path) != self.manifest.ann_checksum):
            raise CollectionDamaged(
                f"{path} is missing or does not match its checksum; build or import the collection again"
            )
        return read_ann(path, mapped=self.manifest.vectors == "ivfpq")

    def check_encoder(self, encoder: TextEncoder) -> None:
        """Raises EncoderMismatch where the vectors were made by another model."""
        if self.manifest.encoder != encoder.fingerprint:
            raise EncoderMismatch(
                f"collection {self.place.name!r} was built with encoder {self.manifest.encoder}, configured is "
                f"{encoder.fingerprint}; configure that encoder, or build the collection again"
            )

    # --- searches ---

    def search_sparse(self, text: str, k: int, chosen: Filter | None = None) -> Found:
        """The k best chunks by BM25."""
        allowed = None if chosen is None else self._allowed(chosen).query
        return self._complete(lambda wanted: self.lucene.search(text, wanted, allowed), k)

    def search_dense(self, query: Matrix, k: int, chosen: Filter | None = None) -> Found:
        """The k best chunks by inner product with ``query`` (dimension,)."""
        allowed = None if chosen is None else self._allowed(chosen).rows
        return self._complete(lambda wanted: self.vectors.search(query, wanted, allowed), k)

    def _complete(self, search: Callable[[int], tuple[list[int], list[float]]], k: int) -> Found:
        """k chunks that exist: another store may still know a deleted one until it has followed SQLite."""
        wanted = k
        while True:
            rows, scores = search(wanted)
            chunks = self._cache.get(rows)
            found = [(row, chunks[row], score) for row, score in zip(rows, scores, strict=True) if row in chunks]
            if len(found) >= k or len(rows) < wanted:
                return found
            wanted *= 2

    def _allowed(self, chosen: Filter) -> Allowed:
        """The rows a filter lets pass, kept for the next question with the same filter."""
        kept = self._filters.get(chosen)
        if kept is None:
            kept = Allowed(self.store.matching(chosen))
            if len(self._filters) >= MAX_CACHED_FILTERS:
                self._filters.clear()
            self._filters[chosen] = kept
        return kept


class Allowed:
    """What a filter lets pass: ascending rows, and Lucene's query for them once Lucene is asked."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    @cached_property
    def query(self) -> Any:
        return allow_rows(self.rows)
