"""Fusion tried at many points over rankings that were retrieved once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.asking import collapse
from eval.measures import score
from eval.run import without_self
from eval.trec import Qrels
from eval.tuning.space import Point
from rag.assemble import Engine
from rag.config import PipelineConfig
from rag.errors import InvalidInput
from rag.protocols import Retriever
from rag.retrieval.composite import Fused, cut
from rag.values import Query, Ranking

ALONE: dict[str, Any] = {"weights": [], "rerank": "none"}
"""What makes a pipeline of one retriever of any pipeline."""


@dataclass(frozen=True)
class Remembered(Retriever):
    """A retriever's rankings by query id, to be cut: the best k of a deeper search are those of a search for k."""

    rankings: Mapping[str, Ranking]

    def retrieve(self, query: Query, k: int) -> Ranking:
        return cut(self.rankings[query.id], k)


@dataclass(frozen=True, slots=True)
class Fusing:
    """Values of points of a pipeline that fuses.

    leaves  one a retriever, in the order of ``config.retrieve``
    fetch   chunks that are fused out, ``depth`` of the documents they make are scored
    """

    config: PipelineConfig
    leaves: Sequence[Remembered]
    queries: Mapping[str, str]
    qrels: Qrels
    measure: Any
    depth: int
    fetch: int

    def values(self, point: Point) -> dict[str, float]:
        """Query to value, all judged queries."""
        chosen = replace(self.config, **point)
        weights = chosen.weights or tuple(1.0 / len(self.leaves) for _ in self.leaves)
        fused = Fused(retrievers=tuple(self.leaves), weights=weights, fuse=chosen.fuse, depth=chosen.depth)
        run = {
            query_id: without_self(collapse(fused.retrieve(Query(text, query_id), self.fetch)), query_id)[: self.depth]
            for query_id, text in self.queries.items()
        }
        scores = score(self.qrels, run, [self.measure])
        return {query_id: each[str(self.measure)] for query_id, each in scores.per_query.items()}


def fusing(
    engine: Engine,
    collection: str,
    config: PipelineConfig,
    queries: Mapping[str, str],
    qrels: Qrels,
    measure: Any,
    *,
    depth: int,
    fetch: int,
    deepest: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Fusing:
    """Every query asked once of every retriever, at the largest depth that is tried.

    Raises InvalidInput for a pipeline that fuses nothing or has a reranker: that one would have to read each point's
    candidates.
    """
    if len(config.retrieve) < 2:
        raise InvalidInput(f"retrieve = {list(config.retrieve)} fuses nothing; tune a pipeline with two retrievers")
    if config.rerank != "none":
        raise InvalidInput(f"rerank = {config.rerank!r} follows the fusion; tune it without: --set rerank=none")
    asked = {query_id: text for query_id, text in queries.items() if text.strip()}
    leaves, done = [], 0
    for kind in config.retrieve:
        alone = engine.pipeline(collection, None, {**ALONE, "retrieve": [kind], "depth": deepest})
        rankings: dict[str, Ranking] = {}
        for query_id, text in asked.items():
            rankings[query_id] = alone.search(Query(text, query_id), deepest)
            done += 1
            progress(done)
        leaves.append(Remembered(rankings))
    return Fusing(config, leaves, asked, qrels, measure, depth, fetch)
