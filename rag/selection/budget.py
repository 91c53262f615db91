"""Budget fill: take chunks by rank while they fit."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rag.protocols import Selector, TokenCounter
from rag.selection.cost import costs, readable, spent
from rag.selection.ordering import Order, arrange
from rag.values import Context, Hit, Query, Ranking, StageReport


@dataclass(frozen=True)
class BudgetFill(Selector):
    """Best first; a chunk that does not fit is passed over, a later and shorter one may still fit."""

    count: TokenCounter
    order: Order = "score"

    def select(self, query: Query, ranking: Ranking, budget: int) -> Context:
        started = time.perf_counter()
        hits = readable(ranking.hits)
        chosen: list[Hit] = []
        used = 0
        for hit, cost in zip(hits, costs(hits, self.count), strict=True):
            if used + cost <= budget:
                chosen.append(hit)
                used += cost
        report = StageReport("select", time.perf_counter() - started, len(ranking), len(chosen))
        arranged = arrange(chosen, self.order)
        return Context(arranged, spent(arranged, self.count), budget, ranking, report)
