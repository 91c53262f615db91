"""A reranker's scores and the first stage's, added up."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

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
        new = {hit.chunk.id: hit.score for hit in found.hits}
        first = _unit([hit.score for hit in head])
        second = _unit([new[hit.chunk.id] for hit in head])
        scores = [self.share * a + (1.0 - self.share) * b for a, b in zip(first, second, strict=True)]
        mixed = reranked(ranking, scores, stage="rerank", kind=ScoreKind.WEIGHTED_SUM, started=started)
        return replace(mixed, report=replace(found.report, seconds=time.perf_counter() - started))


def _unit(values: list[float]) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]
