"""Maximal marginal relevance under a token budget."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from indexes.encoding import Matrix, TextEncoder
from rag.protocols import PromptCounter, Selector
from rag.selection.cost import costs, readable, room, spent
from rag.selection.ordering import Order, arrange
from rag.selection.reasons import by_rank
from rag.values import Context, Query, Ranking, StageReport


@dataclass(frozen=True)
class MaximalMarginalRelevance(Selector):
    """Repeatedly the fitting chunk with the largest lambda * cos(q, c) - (1 - lambda) * max cos(c, chosen).

    Carbonell & Goldstein, SIGIR 1998. Ties go to the better rank.
    """

    encoder: TextEncoder
    count: PromptCounter
    lambda_: float = 0.7
    order: Order = "score"

    def select(self, query: Query, ranking: Ranking, budget: int) -> Context:
        started = time.perf_counter()
        hits = readable(ranking.hits)
        cost, free = costs(hits, self.count), room(budget, self.count)
        vectors = self.encoder.encode_passages([hit.chunk.content for hit in hits])
        picked = pick(self.encoder.encode_query(query.text), vectors, cost, free, self.lambda_)
        chosen = [hits[i] for i in picked]
        tokens = sum(self.encoder.count_tokens([hit.chunk.content for hit in hits]))
        report = StageReport("select", time.perf_counter() - started, len(ranking), len(chosen), tokens)
        arranged = arrange(chosen, self.order)
        choice = by_rank("mmr", ranking, hits, picked, cost, free)
        return Context(arranged, spent(arranged, self.count), budget, ranking, report, choice)


def pick(query: Matrix, vectors: Matrix, cost: list[int], budget: int, lambda_: float) -> list[int]:
    """Positions in the order they were chosen. query (d,), vectors (n, d), unit rows."""
    relevance = vectors @ query if len(vectors) else np.zeros(0, np.float32)
    redundancy = np.zeros(len(vectors), dtype=np.float32)
    left, chosen = set(range(len(vectors))), list[int]()
    while fitting := [i for i in sorted(left) if cost[i] <= budget]:
        best = max(fitting, key=lambda i: lambda_ * relevance[i] - (1.0 - lambda_) * redundancy[i])  # the first
        chosen.append(best)
        left.discard(best)
        budget -= cost[best]
        similarity = vectors @ vectors[best]
        redundancy = np.maximum(redundancy, similarity) if len(chosen) > 1 else similarity
    return chosen
