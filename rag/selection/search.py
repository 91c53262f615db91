"""Selection by search: the chunk set with the largest utility within the token budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from indexes.encoding import TextEncoder
from rag.protocols import Selector, TokenCounter
from rag.selection.cost import costs, readable, spent
from rag.selection.evaluator import solve
from rag.selection.ordering import Order, arrange
from rag.selection.pool import Pool
from rag.selection.portfolio import SEARCHERS
from rag.selection.problem import Limits, Problem, Result
from rag.selection.reasons import explained
from rag.selection.terms import Term
from rag.selection.utility import WeightedSum, Weights
from rag.values import Context, Hit, Query, Ranking, StageReport


@dataclass(frozen=True, kw_only=True)
class SetSelector(Selector):
    """The best set found among the ``depth`` best chunks; what is worth less than its tokens stays out.

    encoder   compares chunks by cosine; without one they are compared by MinHash
    searcher  a name of ``SEARCHERS``;  name  what the trace calls it, "" the searcher's
    most      largest number of chunks
    limits    of the search; with a time limit the same question may get another set
    ordered   sequences are searched, and the best one is the prompt's order; else ``order`` arranges the set
    """

    count: TokenCounter
    encoder: TextEncoder | None = None
    order: Order = "score"
    searcher: str = "portfolio"
    name: str = ""
    weights: Weights = Weights()
    limits: Limits = Limits()
    depth: int = 30
    most: int = 12
    ordered: bool = False

    def __post_init__(self) -> None:
        if self.searcher not in SEARCHERS:
            raise ValueError(f"no searcher {self.searcher!r}; there are {', '.join(SEARCHERS)}")
        if min(self.depth, self.most) < 1:
            raise ValueError(f"depth = {self.depth}, most = {self.most}; both are at least 1")

    def select(self, query: Query, ranking: Ranking, budget: int) -> Context:
        started = time.perf_counter()
        hits = readable(ranking.hits)[: self.depth]
        pool = self.pool(query, ranking, hits, budget)
        utility = self.utility(pool)
        problem = self.problem(pool, utility)
        result = solve(problem, SEARCHERS[self.searcher], self.limits)
        name = self.name or self.searcher
        choice = explained(name, problem, utility, result, ranking, hits)
        arranged = self._arranged(hits, result)
        read = sum(self.encoder.count_tokens(pool.texts)) if self.encoder else 0
        seconds = time.perf_counter() - started
        notes = (self._note(result),)
        report = StageReport("select", seconds, len(ranking), len(arranged), read + result.tokens, notes=notes)
        return Context(arranged, spent(arranged, self.count), budget, ranking, report, choice)

    def pool(self, query: Query, ranking: Ranking, hits: Sequence[Hit], budget: int) -> Pool:
        """What is read off ``hits``, which stand in ``ranking``; candidate i is hits[i]."""
        return Pool(query, ranking, hits, tuple(costs(hits, self.count)), budget, self.encoder, self.order)

    def utility(self, pool: Pool) -> WeightedSum:
        """The terms whose weight is not 0; the others are never made."""
        makers = pool.terms() | ({"order": pool.disorder} if self.ordered else {})
        terms: dict[str, Term] = {name: make() for name, make in makers.items() if getattr(self.weights, name)}
        return WeightedSum.of(self.weights, **terms)

    def problem(self, pool: Pool, utility: WeightedSum) -> Problem:
        """The choice as a search problem."""
        return Problem(
            costs=pool.costs,
            budget=pool.budget,
            utility=utility,
            most=self.most,
            ordered=self.ordered,
            bound=utility.bound,
        )

    def _arranged(self, hits: Sequence[Hit], result: Result) -> tuple[Hit, ...]:
        if self.ordered:
            return tuple(hits[i] for i in result.chosen)
        return arrange([hits[i] for i in sorted(result.chosen)], self.order)

    def _note(self, result: Result) -> str:
        end = "optimal" if result.optimal else "ended" if result.complete else "stopped at its limit"
        name = self.name or self.searcher
        return f"{name}: utility {result.value:.4f} after {result.evaluations} evaluations, {end}"
