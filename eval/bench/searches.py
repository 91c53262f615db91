"""Library searches beside the bare libraries: BM25 and Anserini, exact vectors and FAISS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from eval.bench.figures import Figure
from eval.bench.timing import in_turns
from indexes.encoding import Matrix, TextEncoder
from indexes.jvm import java
from indexes.snapshot import Snapshot
from rag.retrieval.bm25 import Bm25
from rag.values import Query

MOST = 1.2
"""Target: at most this many times the bare part."""

KS = (10, 100)

WARM_ROUNDS = 10
"""Rounds of BM25 that are not counted: Java compiles what runs often, on both sides."""


def bm25(retriever: Bm25, queries: Sequence[str], repeats: int) -> Iterator[Figure]:
    """``Bm25.retrieve`` beside Anserini's own searcher on the same index, which has id and score read of every hit."""
    place = retriever.collection.snapshot().place
    searcher = java("io.anserini.search.SimpleSearcher")(str(place.path / "lucene"))
    searcher.set_bm25(0.9, 0.4)
    try:
        for k in KS:

            def bare(text: str, k: int = k) -> object:
                return [(hit.docid, hit.score) for hit in searcher.search(text, k)]

            def ours(text: str, k: int = k) -> object:
                return retriever.retrieve(Query(text), k)

            mine, floor = in_turns(ours, bare, queries, repeats, WARM_ROUNDS)
            yield _figure(f"bm25 k={k}", mine, floor, "Anserini's SimpleSearcher", f"{len(queries)} queries")
    finally:
        searcher.close()


def dense(snapshot: Snapshot, encoder: TextEncoder, queries: Sequence[str], repeats: int) -> Iterator[Figure]:
    """``Snapshot.search_dense`` beside a bare ``IndexFlatIP`` with the same vectors and threads.

    Query vectors are made beforehand: both sides get the same ones.
    """
    faiss: Any = import_module("faiss")
    vectors = stored_vectors(snapshot)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    asked = [encoder.encode_query(text) for text in queries]
    for k in KS:

        def bare(vector: Matrix, k: int = k) -> object:
            return flat.search(vector[None, :], k)

        def ours(vector: Matrix, k: int = k) -> object:
            return snapshot.search_dense(vector, k)

        mine, floor = in_turns(ours, bare, asked, repeats)
        note = f"{len(vectors)} vectors, {faiss.omp_get_max_threads()} threads"
        yield _figure(f"dense k={k}", mine, floor, "FAISS IndexFlatIP", note)


def stored_vectors(snapshot: Snapshot) -> Matrix:
    """(n, dimension) float32, the vectors of all living chunks."""
    rows = np.arange(1, snapshot.store.next_row(), dtype=np.int64)
    vectors = snapshot.vectors.lookup(rows)
    return np.ascontiguousarray(vectors[~np.isnan(vectors[:, 0])])


def _figure(name: str, mine: float, bare: float, beside: str, note: str) -> Figure:
    return Figure(name=name, measured=mine * 1e3, baseline=bare * 1e3, beside=beside, unit="ms", target=MOST, note=note)
