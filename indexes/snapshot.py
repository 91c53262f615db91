"""A point-in-time view of one version: what every retriever searches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
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
        self._gone: set[int] = set()
        self._lock = threading.Lock()

    def get(self, rows: Sequence[int]) -> list[Chunk | None]:
        """The chunk of each row, None where it does not exist."""
        found = list(map(self._chunks.get, rows))
        if not all(found):
            read = self._store.chunks(row for row, chunk in zip(rows, found, strict=True) if chunk is None)
            self._keep(read)
            found = [chunk or read.get(row) for row, chunk in zip(rows, found, strict=True)]
        return found

    def _keep(self, chunks: dict[int, Chunk]) -> None:
        with self._lock:
            for row, chunk in chunks.items():
                if row not in self._chunks and row not in self._gone:
                    self._chunks[row] = chunk
                    self._size += _weight(chunk)
            while self._size > self._limit and self._chunks:
                self._size -= _weight(self._chunks.pop(next(iter(self._chunks))))

    def forget(self, rows: Iterable[int]) -> None:
        """Deleted rows. They are noted, for a thread may have read one just before and keep it just after."""
        with self._lock:
            for row in rows:
                self._gone.add(row)
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
        unread = before is None or (before._verify and "lucene" not in before._opened)
        self._verify: bool = settings.verify and unread
        self._cache = cache
        self._lock = threading.Lock()
        self._opened: dict[str, Any] = {}
        self._filters: dict[Filter, Allowed] = {}
        self._take_over(before)

    def _take_over(self, before: Snapshot | None) -> None:
        if before is None:
            return
        self._cache.forget(row for row, _ in self.store.dead(since=before.generation))
        if "vectors" in before._opened:
            old = before.vectors
            new = self._parts(after=old.last_row)
            self._opened["vectors"] = old.after(new, (row for row, _ in self.store.dead()))

    # --- the parts ---

    @property
    def lucene(self) -> LuceneSearcher:
        searcher: LuceneSearcher = self._once("lucene", self._open_lucene)
        return searcher

    @property
    def vectors(self) -> VectorIndex:
        index: VectorIndex = self._once("vectors", self._open_vectors)
        return index

    def _once(self, name: str, open_part: Callable[[], Any]) -> Any:
        """The part of that name, opened by the first thread that asks; others wait for it."""
        if name not in self._opened:
            with self._lock:
                if name not in self._opened:
                    self._opened[name] = open_part()
        return self._opened[name]

    def _open_lucene(self) -> LuceneSearcher:
        searcher = LuceneSearcher(self.place.path / "lucene", self.settings.bm25)
        if self._verify:
            searcher.verify()
        return searcher

    def _open_vectors(self) -> VectorIndex:
        parts = self._parts(after=0)
        dead = (row for row, _ in self.store.dead())
        return VectorIndex(self.manifest.dimension, parts, dead, self._read_ann(), self.settings.vectors)

    def _parts(self, *, after: int) -> list[tuple[Rows, Matrix]]:
        """The vectors of all rows above ``after``. A writer may join files meanwhile; then they are looked up again."""
        while True:
            segments = self.store.segments()
            try:
                return [part for segment in segments if (part := self._part(segment, after=after)) is not None]
            except CollectionDamaged:
                if segments == self.store.segments():
                    raise

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
        while wanted > 0:
            rows, scores = search(wanted)
            triples = zip(rows, self._cache.get(rows), scores, strict=True)
            found = [(row, chunk, score) for row, chunk, score in triples if chunk is not None]
            if len(found) > k:  # all that tie with the k-th stay: the caller's rule decides among them
                return [hit for hit in found if hit[2] >= found[k - 1][2]]
            if len(found) == k or len(rows) < wanted:
                return found
            wanted *= 2
        return []

    def unknown_fields(self, chosen: Filter) -> tuple[str, ...]:
        """Fields that the filter names and no document has, in order."""
        return self._allowed(chosen).unknown

    def _allowed(self, chosen: Filter) -> Allowed:
        """The rows a filter lets pass, kept for the next question with the same filter."""
        kept = self._filters.get(chosen)
        if kept is None:
            kept = Allowed(self.store.matching(chosen), self.store.unknown(chosen.fields))
            if len(self._filters) >= MAX_CACHED_FILTERS:
                self._filters.clear()
            self._filters[chosen] = kept
        return kept


class Allowed:
    """What a filter lets pass: ascending rows, and Lucene's query for them once Lucene is asked.

    unknown  fields of the filter that no document has
    """

    def __init__(self, rows: Rows, unknown: tuple[str, ...] = ()) -> None:
        self.rows, self.unknown = rows, unknown

    @cached_property
    def query(self) -> Any:
        return allow_rows(self.rows)
