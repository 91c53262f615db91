"""BM25 over a collection's Lucene index."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from indexes.collection import Collection
from rag.protocols import Retriever
from rag.retrieval.many import retrieve_many
from rag.retrieval.stage import filter_notes, ranking
from rag.values import Query, Ranking, ScoreKind


@dataclass(frozen=True)
class Bm25(Retriever):
    """Bag-of-words BM25 (Robertson & Zaragoza 2009) with Anserini's English analyzer."""

    collection: Collection

    def retrieve(self, query: Query, k: int) -> Ranking:
        started = time.perf_counter()
        snapshot = self.collection.snapshot()
        found = snapshot.search_sparse(query.text, k, query.filter)
        notes = filter_notes(snapshot, query)
        return ranking(found, k, stage="bm25", kind=ScoreKind.BM25, started=started, notes=notes)

    def retrieve_many(self, queries: Sequence[Query], k: int) -> list[Ranking]:
        return retrieve_many(self.retrieve, queries, k)
