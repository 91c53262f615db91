"""Dense vectors: immutable files of float32 rows, searched exactly or through a FAISS graph.

A file ``vectors/<first row>-<length>.f32`` holds the vectors of consecutive chunk rows, nothing else. The first
segment may have an approximate index beside it (``ann.faiss``); segments added later, and every search that a
filter narrows strongly, are searched exactly over the stored vectors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from indexes.documents import Rows, Segment
from indexes.encoding import Matrix
from indexes.errors import CollectionDamaged, InvalidInput

faiss: Any = import_module("faiss")  # its type stubs lack half of what the wheel has

Kind = Literal["exact", "hnsw", "ivfpq"]
Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]

NARROW = 0.1
"""Below this allowed share of an approximate index the search is exact: graphs lose hits under narrow filters."""

REFINE = 4
"""Candidates a hit taken from an index of compressed vectors, to be scored by the stored ones."""

PQ_CODES = 256
"""Codes of one byte, each the mean of at least one training row."""

MAX_PARTS = 32
"""More parts than this behind an approximate index are joined in memory: each costs a step a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSettings:
    """Which index is built. ``auto`` is exact up to ``exact_up_to`` chunks and HNSW beyond.

    HNSW (Malkov & Yashunin 2020): m links a node, efConstruction and efSearch candidates.
    IVF-PQ (Jegou et al. 2011): lists 0 means 4 sqrt(n); bytes a vector; probes lists a query.
    """

    kind: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"
    exact_up_to: int = 50_000
    hnsw_m: int = 32
    hnsw_ef_construction: int = 200
    hnsw_ef_search: int = 128
    ivf_lists: int = 0
    ivf_probes: int = 32
    pq_bytes: int = 64

    def resolve(self, n: int) -> Kind:
        if self.kind != "auto":
            return self.kind
        return "exact" if n <= self.exact_up_to else "hnsw"


def segment_path(directory: Path, first: int, length: int) -> Path:
    return directory / f"{first:012d}-{length}.f32"


def checksum(path: Path) -> str:
    """blake2b of the file, 16 bytes in hex."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_segment(directory: Path, segment: Segment, dimension: int, *, verify: bool, mapped: bool = False) -> Matrix:
    """(length, dimension) float32, in memory or mapped from the file.

    Raises CollectionDamaged where the file is missing, short or altered.
    """
    path = segment_path(directory, segment.first, segment.length)
    rule = "build or import the collection again"
    expected = segment.length * dimension * 4
    try:
        size = path.stat().st_size
        if size != expected:
            raise CollectionDamaged(f"the vectors {path} have {size} bytes instead of {expected}; {rule}")
        if verify and checksum(path) != segment.checksum:
            raise CollectionDamaged(f"the vectors {path} do not match their checksum; {rule}")
        if mapped:
            return np.memmap(path, dtype="<f4", mode="r", shape=(segment.length, dimension))
        return np.fromfile(path, dtype="<f4").reshape(segment.length, dimension)
    except OSError as error:
        raise CollectionDamaged(f"the vectors {path} are missing or cannot be read ({error}); {rule}") from error


def build_ann(vectors: Matrix, kind: Kind, settings: VectorSettings) -> Any:
    """An approximate index over the rows, positions 0..n-1. One thread, so that the graph is always the same.

    Raises InvalidInput where the rows are too few to train on, or cannot be cut into ``pq_bytes`` parts.
    """
    n, dimension = vectors.shape
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        if kind == "hnsw":
            index = faiss.IndexHNSWFlat(dimension, settings.hnsw_m, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = settings.hnsw_ef_construction
        else:
            lists = settings.ivf_lists or max(1, int(4 * n**0.5))
            if dimension % settings.pq_bytes:
                raise InvalidInput(
                    f"pq_bytes = {settings.pq_bytes} does not divide the dimension {dimension}; choose one that does"
                )
            if n < (least := max(lists, PQ_CODES)):
                raise InvalidInput(f"ivfpq needs at least {least} chunks to train on, not {n}; use exact or hnsw")
            # np: without the training for polysemous codes, minutes of annealing for something not used here
            index = faiss.index_factory(dimension, f"IVF{lists},PQ{settings.pq_bytes}np", faiss.METRIC_INNER_PRODUCT)
            index.train(vectors)
        index.add(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def write_ann(index: Any, path: Path) -> None:
    """Written through Python's file: FAISS's own tells nobody where the last bytes did not fit on the disk."""
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, 1 << 20))


def read_ann(path: Path, *, mapped: bool) -> Any:
    """Raises CollectionDamaged where FAISS cannot read the file."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP if mapped else 0)
    except RuntimeError as error:
        raise CollectionDamaged(
            f"the vector index {path} cannot be read; build or import the collection again"
        ) from error


class VectorIndex:
    """A point-in-time view of all living vectors. Threads may share it.

    parts  (rows, vectors) by ascending row, the rows of one part ascending
    dead   rows that were deleted
    ann    approximate index over the first part, or None: then every search is exact
    """

    def __init__(
        self,
        dimension: int,
        parts: Sequence[tuple[Rows, Matrix]],
        dead: Iterable[int],
        ann: Any = None,
        settings: VectorSettings | None = None,
    ) -> None:
        self._dimension = dimension
        self._settings = settings or VectorSettings()
        self._ann = ann
        self._rows: Rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in parts)])
        self.last_row = int(self._rows[-1]) if len(self._rows) else 0
        self._alive = ~np.isin(self._rows, np.fromiter(dead, np.int64))
        self._segments = [matrix for _, matrix in parts]
        if ann is None:
            self._join_segments()
        self._offsets = np.cumsum([0] + [len(matrix) for matrix in self._segments])
        self._all_alive = bool(self._alive.all())

    def after(self, parts: Sequence[tuple[Rows, Matrix]], dead: Iterable[int]) -> VectorIndex:
        """The view after a change: ``parts`` are new, ``dead`` are all rows ever deleted."""
        bounds = zip(self._offsets[:-1], self._offsets[1:], strict=True)
        mine = [(self._rows[a:b], matrix) for (a, b), matrix in zip(bounds, self._segments, strict=True)]
        everything = [*mine, *parts]
        if self._ann is not None and len(everything) > MAX_PARTS:
            rows, matrices = zip(*everything[1:], strict=True)
            everything[1:] = [(np.concatenate(rows), np.concatenate(matrices))]
        changed = VectorIndex(self._dimension, everything, dead, self._ann, self._settings)
        changed.last_row = max(self.last_row, changed.last_row)
        return changed

    def _join_segments(self) -> None:
        """Exact search: the living vectors in one FAISS array, which the only segment is then a view of."""
        self._flat = faiss.IndexFlatIP(self._dimension)
        at = 0
        for matrix in self._segments:
            alive = self._alive[at : at + len(matrix)]
            self._flat.add(np.ascontiguousarray(matrix if alive.all() else matrix[alive]))
            at += len(matrix)
        self._rows = self._rows[self._alive]
        self._alive = self._alive[self._alive]
        stored = faiss.rev_swig_ptr(self._flat.get_xb(), len(self._rows) * self._dimension)
        self._segments = [stored.reshape(-1, self._dimension)]

    def __len__(self) -> int:
        return int(self._alive.sum())

    def search(self, query: Matrix, k: int, allowed: Rows | None = None) -> tuple[list[int], list[float]]:
        """Rows and inner products of the k best living vectors, best first.

        query    (dimension,) float32;  allowed  ascending rows that may be returned, None for all
        One query a call: FAISS takes 20 and more by matrix products, whose sums differ in the last bit.
        Where the k-th score is shared by several, all of those are returned, so that the caller's
        tie rule decides and not the order in storage.
        """
        mask = None if allowed is None and self._all_alive else self._alive
        if allowed is not None:
            mask = self._alive & np.isin(self._rows, allowed, assume_unique=True)
        available = len(self._rows) if mask is None else int(mask.sum())
        if not available or k < 1:
            return [], []
        k = min(k, available)
        if self._ann is None:
            positions, scores = self._exact(query[None, :], k, available, mask)
        else:
            positions, scores = self._approximate(query[None, :], k, mask)
        return self._rows[positions].tolist(), scores.tolist()

    def _exact(self, query: Matrix, k: int, available: int, mask: Mask | None) -> tuple[Positions, Matrix]:
        parameters = None if mask is None else faiss.SearchParameters(sel=_selector(mask))
        wanted = min(available, k + 1)
        while True:
            scores, positions = self._flat.search(query, wanted, params=parameters)
            if wanted == available or scores[0, -1] < scores[0, k - 1]:
                kept = k  # one more was fetched to see whether it ties with the k-th
                while kept < wanted and scores[0, kept] == scores[0, k - 1]:
                    kept += 1
                return positions[0, :kept], scores[0, :kept]
            wanted = min(available, 2 * wanted)

    def _approximate(self, query: Matrix, k: int, mask: Mask | None) -> tuple[Positions, Matrix]:
        """Candidates from the index for the first segment, everything for the rest; scored by the stored vectors."""
        size = int(self._offsets[1])
        later = np.arange(size, len(self._rows), dtype=np.int64)
        first = self._candidates(query, k, np.ones(size, np.bool_) if mask is None else mask[:size])
        positions = np.concatenate([first, later if mask is None else later[mask[size:]]])
        scores = self._products(query[0], self._gather(positions))
        order = np.argsort(-scores, kind="stable")
        if len(order) > k:
            order = order[scores[order] >= scores[order[k - 1]]]
        return positions[order], scores[order]

    def _candidates(self, query: Matrix, k: int, mask: Mask) -> Positions:
        """At least k allowed positions of the first segment, or all there are."""
        available = int(mask.sum())
        share = available / len(mask)
        wanted = min(available, k if isinstance(self._ann, faiss.IndexHNSW) else REFINE * k)
        if share < NARROW or wanted == available:
            return np.flatnonzero(mask)
        selector = None if available == len(mask) else _selector(mask)
        _, found = self._ann.search(query, wanted, params=self._ann_parameters(wanted, share, selector))
        positions: Positions = found[0][found[0] >= 0]
        return positions if len(positions) >= min(k, available) else np.flatnonzero(mask)

    def _products(self, query: Matrix, vectors: Matrix) -> Matrix:
        """FAISS's own sums: bit for bit the scores of the exact search, and of equal vectors always equal."""
        out = np.empty(len(vectors), dtype=np.float32)
        query = np.ascontiguousarray(query)
        parts = (faiss.swig_ptr(array) for array in (out, query, vectors))
        faiss.fvec_inner_products_ny(*parts, self._dimension, len(vectors))
        return out

    def _gather(self, positions: Positions) -> Matrix:
        out = np.empty((len(positions), self._dimension), dtype=np.float32)
        owner = np.searchsorted(self._offsets, positions, side="right") - 1
        for number, matrix in enumerate(self._segments):
            mine = owner == number
            out[mine] = matrix[positions[mine] - self._offsets[number]]
        return out

    def _ann_parameters(self, wanted: int, share: float, selector: Any) -> Any:
        """Only ``share`` of what the index meets may be returned, so it looks at that many times more."""
        if isinstance(self._ann, faiss.IndexHNSW):
            effort = max(self._settings.hnsw_ef_search, 2 * wanted)
            return faiss.SearchParametersHNSW(efSearch=math.ceil(effort / share), sel=selector)
        probes = min(self._ann.nlist, math.ceil(self._settings.ivf_probes / share))
        return faiss.SearchParametersIVF(nprobe=probes, sel=selector)

    def lookup(self, rows: Rows) -> Matrix:
        """(n, dimension) float32, the vectors of living rows; NaN for rows that are not there."""
        out = np.full((len(rows), self._dimension), np.nan, dtype=np.float32)
        if len(self._rows):
            at = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
            found = (self._rows[at] == rows) & self._alive[at]
            out[found] = self._gather(at[found])
        return out


def _selector(mask: Mask) -> Any:
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
