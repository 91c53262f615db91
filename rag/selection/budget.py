"""Budget fill: take chunks by rank while they fit."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rag.protocols import PromptCounter, Selector
from rag.selection.cost import costs, readable, room, spent
from rag.selection.ordering import Order, arrange
from rag.selection.reasons import by_rank
from rag.values import Context, Query, Ranking, StageReport


@dataclass(frozen=True)
class BudgetFill(Selector):
    """Best first; a chunk that does not fit is passed over, a later and shorter one may still fit."""

    count: PromptCounter
    order: Order = "score"

    def select(self, query: Query, ranking: Ranking, budget: int) -> Context:
        started = time.perf_counter()
        hits = readable(ranking.hits)
        cost = costs(hits, self.count)
        taken: list[int] = []
        left = free = room(budget, self.count)
        for i in range(len(hits)):
            if cost[i] <= left:
                taken.append(i)
                left -= cost[i]
        arranged = arrange([hits[i] for i in taken], self.order)
        choice = by_rank("budget", ranking, hits, taken, cost, free)
        report = StageReport("select", time.perf_counter() - started, len(ranking), len(taken))
        return Context(arranged, spent(arranged, self.count), budget, ranking, report, choice)
