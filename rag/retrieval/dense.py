"""Dense retrieval: the text encoder's vectors, by inner product."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from indexes.collection import Collection
from indexes.encoding import TextEncoder
from rag.protocols import Retriever
from rag.retrieval.many import retrieve_many
from rag.retrieval.stage import filter_notes, ranking
from rag.values import Query, Ranking, ScoreKind


@dataclass(frozen=True)
class Dense(Retriever):
    """Chunks by the cosine of their vector and the query's. Raises EncoderMismatch for another model's vectors."""

    collection: Collection
    encoder: TextEncoder

    def retrieve(self, query: Query, k: int) -> Ranking:
        started = time.perf_counter()
        snapshot = self.collection.snapshot()
        snapshot.check_encoder(self.encoder)
        vector = self.encoder.encode_query(query.text)
        found = snapshot.search_dense(vector, k, query.filter)
        tokens = sum(self.encoder.count_tokens([query.text]))
        notes = filter_notes(snapshot, query)
        return ranking(found, k, stage="dense", kind=ScoreKind.COSINE, started=started, tokens=tokens, notes=notes)

    def retrieve_many(self, queries: Sequence[Query], k: int) -> list[Ranking]:
        return retrieve_many(self.retrieve, queries, k)
