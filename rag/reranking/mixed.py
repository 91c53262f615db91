"""A reranker's scores and the first stage's, added up."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from rag.fusion import weighted_sum
from rag.protocols import Reranker
from rag.reranking.stage import reranked
from rag.values import Query, Ranking, ScoreKind


@dataclass(frozen=True)
class MixedReranker(Reranker):
    """share * first stage + (1 - share) * reranker, over the ``depth`` best, each between 0 and 1 there (min-max).

    A first stage or a reranker that gave all one score leaves the order to the other. Hits that the reranker did not
    read have its least score. Its contributions to a passage's tokens stay its own.
    """

    inner: Reranker
    share: float
    depth: int

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        started = time.perf_counter()
        found = self.inner.rerank(query, ranking)
        head = ranking.hits[: self.depth]
        first = {hit.chunk.id: hit.score for hit in head}
        second = {hit.chunk.id: hit.score for hit in found.hits if hit.chunk.id in first}
        fused = weighted_sum([first, second], [self.share, 1.0 - self.share])
        scores = [fused[hit.chunk.id] for hit in head]
        mixed = reranked(ranking, scores, stage="rerank", kind=ScoreKind.WEIGHTED_SUM, started=started)
        return replace(mixed, report=replace(found.report, seconds=time.perf_counter() - started))
