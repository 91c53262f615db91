"""Fast-Forward: BM25's candidates, their dense scores looked up instead of searched."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from indexes.collection import Collection
from indexes.encoding import TextEncoder
from rag.fusion import interpolate
from rag.protocols import Retriever
from rag.retrieval.many import retrieve_many
from rag.retrieval.stage import check_depth, filter_notes, ranking
from rag.values import Hit, Query, Ranking, ScoreKind, StageReport


@dataclass(frozen=True)
class FastForward(Retriever):
    """alpha * BM25 + (1 - alpha) * scale * cosine over BM25's ``depth`` best (Leonhardt et al., WWW 2022).

    scale  brings the cosine to the size of a BM25 score, so that alpha reads as a share
    A k above ``depth`` is refused: it would need other candidates.
    """

    collection: Collection
    encoder: TextEncoder
    alpha: float = 0.5
    depth: int = 1000
    scale: float = 30.0

    def retrieve(self, query: Query, k: int) -> Ranking:
        check_depth(k, self.depth)
        started = time.perf_counter()
        snapshot = self.collection.snapshot()
        snapshot.check_encoder(self.encoder)
        found = snapshot.search_sparse(query.text, self.depth, query.filter)
        notes = filter_notes(snapshot, query)
        sparse = ranking(found, self.depth, stage="bm25", kind=ScoreKind.BM25, started=started, notes=notes)
        searched = time.perf_counter()
        vector = self.encoder.encode_query(query.text)
        looked_up = snapshot.vectors.lookup(np.array([row for row, _, _ in found], dtype=np.int64)) @ vector
        dense = {
            chunk.id: self.scale * float(score) if score == score else 0.0  # NaN: deleted a moment ago
            for (_, chunk, _), score in zip(found, looked_up, strict=True)
        }
        scores = interpolate({chunk.id: score for _, chunk, score in found}, dense, self.alpha)
        hits = sorted(((scores[chunk.id], chunk) for _, chunk, _ in found), key=lambda pair: (-pair[0], pair[1].id))[:k]
        tokens = sum(self.encoder.count_tokens([query.text]))
        report = StageReport("fast-forward", time.perf_counter() - searched, len(found), len(hits), tokens)
        bound = self.alpha * 40.0 + (1.0 - self.alpha) * self.scale
        return Ranking(
            tuple(Hit(chunk, score) for score, chunk in hits),
            ScoreKind.WEIGHTED_SUM,
            report,
            (sparse,),
            bound,
        )

    def retrieve_many(self, queries: Sequence[Query], k: int) -> list[Ranking]:
        return retrieve_many(self.retrieve, queries, k)
