"""Retrievers made of retrievers: fused and reranked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rag.errors import ModelOutOfMemory
from rag.fusion import RRF_C, reciprocal_rank, weighted_sum
from rag.protocols import Reranker, Retriever
from rag.retrieval.stage import check_depth
from rag.values import Hit, Query, Ranking, ScoreKind, StageReport

Fuse = Literal["rrf", "minmax", "zscore", "theoretical"]

_FLOOR = {ScoreKind.BM25: 0.0, ScoreKind.COSINE: -1.0}


@dataclass(frozen=True, kw_only=True)
class Fused(Retriever):
    """Several retrievers asked to a fixed ``depth`` and fused; only then the k best are cut off.

    So a chunk's score is the same whatever k is. A k above ``depth`` is refused: it would need other candidates.
    """

    retrievers: tuple[Retriever, ...]
    weights: tuple[float, ...]
    fuse: Fuse = "minmax"
    depth: int = 100
    c: int = RRF_C

    def retrieve(self, query: Query, k: int) -> Ranking:
        check_depth(k, self.depth)
        return self._fused([retriever.retrieve(query, self.depth) for retriever in self.retrievers], k)

    def retrieve_many(self, queries: Sequence[Query], k: int) -> list[Ranking]:
        check_depth(k, self.depth)
        columns = [retriever.retrieve_many(queries, self.depth) for retriever in self.retrievers]
        return [self._fused(list(inputs), k) for inputs in zip(*columns, strict=True)]

    def _fused(self, inputs: Sequence[Ranking], k: int) -> Ranking:
        started = time.perf_counter()
        scores = [{hit.chunk.id: hit.score for hit in ranking} for ranking in inputs]
        if self.fuse == "rrf":
            fused, kind = reciprocal_rank(scores, self.weights, self.c), ScoreKind.RRF
            bound = sum(self.weights) / (self.c + 1)
        else:
            floors = [_FLOOR.get(ranking.kind, 0.0) for ranking in inputs]
            fused, kind = weighted_sum(scores, self.weights, self.fuse, floors), ScoreKind.WEIGHTED_SUM
            bound = sum(self.weights)
        chunks = {hit.chunk.id: hit.chunk for ranking in inputs for hit in ranking}
        best = sorted(fused, key=lambda chunk_id: (-fused[chunk_id], chunk_id))[:k]
        hits = tuple(Hit(chunks[chunk_id], fused[chunk_id]) for chunk_id in best)
        report = StageReport("fusion", time.perf_counter() - started, len(fused), len(hits))
        return Ranking(hits, kind, report, tuple(inputs), bound)


@dataclass(frozen=True)
class Reranked(Retriever):
    """The ``depth`` best of a retriever in a reranker's order; a k above ``depth`` is refused.

    Where the reranker's model runs out of memory, the retriever's order stays, and the report says why.
    """

    retriever: Retriever
    reranker: Reranker
    depth: int = 100

    def retrieve(self, query: Query, k: int) -> Ranking:
        check_depth(k, self.depth)
        ranking = self.retriever.retrieve(query, self.depth)
        started = time.perf_counter()
        try:
            return cut(self.reranker.rerank(query, ranking), k)
        except ModelOutOfMemory as error:
            return cut(_as_it_was(ranking, time.perf_counter() - started, str(error)), k)


def _as_it_was(ranking: Ranking, seconds: float, why: str) -> Ranking:
    report = StageReport("rerank", seconds, len(ranking), len(ranking), degraded=f"nothing was reranked: {why}")
    return replace(ranking, report=report, inputs=(ranking,))


def cut(ranking: Ranking, k: int) -> Ranking:
    """The ranking's k best, with everything else kept."""
    if len(ranking) <= k:
        return ranking
    return replace(ranking, hits=ranking.hits[:k], report=replace(ranking.report, n_out=k))
