"""Selection by search: the chunk set with the largest utility within the token budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from indexes.encoding import TextEncoder
from rag.errors import CacheUnavailable, InvalidInput, ModelNotAvailable, ModelOutOfMemory, Overloaded
from rag.protocols import PromptCounter, Selector
from rag.runtime.meter import Meter, OutOfBudget, seconds_left
from rag.runtime.reader import Reader
from rag.selection.cost import costs, readable, room, spent
from rag.selection.evaluator import solve
from rag.selection.likelihood import Likelihood
from rag.selection.ordering import Order, arrange
from rag.selection.pool import Pool
from rag.selection.portfolio import SEARCHERS
from rag.selection.problem import Limits, Problem, Result, reads_nothing
from rag.selection.reasons import always, explained
from rag.selection.terms import Term
from rag.selection.utility import WeightedSum, Weights
from rag.values import Chunk, Context, Hit, Query, Ranking, StageReport

UNANSWERED = (ModelNotAvailable, ModelOutOfMemory, CacheUnavailable, Overloaded, InvalidInput, OutOfBudget)
"""Raised where a language model, or the store of its states, has nothing to say: InvalidInput for a prompt too long,
OutOfBudget past the request's deadline."""


LEAST_SECONDS = 0.1
"""A search has that much where the request's deadline leaves less: without any it would choose nothing."""


def within_deadline(limits: Limits) -> Limits:
    """These, with no more seconds than the request that this thread works for has left."""
    left = seconds_left()
    if left is None:
        return limits
    most = max(left, LEAST_SECONDS)
    return replace(limits, seconds=most if limits.seconds is None else min(limits.seconds, most))


@dataclass(frozen=True, kw_only=True)
class SetSelector(Selector):
    """The best set found among the ``depth`` best chunks; what is worth less than its tokens stays out.

    encoder   compares chunks by cosine; without one they are compared by MinHash
    searcher  a name of ``SEARCHERS``;  name  what the trace calls it, "" the searcher's
    most      largest number of chunks
    limits    of the search; with a time limit the same question may get another set
    ordered   sequences are searched, and the best one is the prompt's order; else ``order`` arranges the set
    reader    gives the language model for the term ``likelihood``, which reads ``passage_tokens`` of a chunk
    kept      says for the term ``ttft`` of which chunks the states are in the cache
    A model that gives no number, or a store that does not answer, takes its term with it, and the report says so: one
    not there, out of memory, too busy, or with less context than the set has tokens.
    """

    count: PromptCounter
    encoder: TextEncoder | None = None
    order: Order = "score"
    searcher: str = "portfolio"
    name: str = ""
    weights: Weights = Weights()
    limits: Limits = Limits()
    depth: int = 30
    most: int = 12
    ordered: bool = False
    reader: Callable[[], Reader] | None = None
    passage_tokens: int = 256
    kept: Callable[[Sequence[Chunk]], Sequence[bool]] | None = None

    def __post_init__(self) -> None:
        if self.searcher not in SEARCHERS:
            raise ValueError(f"no searcher {self.searcher!r}; there are {', '.join(SEARCHERS)}")
        if min(self.depth, self.most) < 1:
            raise ValueError(f"depth = {self.depth}, most = {self.most}; both are at least 1")

    def select(self, query: Query, ranking: Ranking, budget: int) -> Context:
        started = time.perf_counter()
        hits = readable(ranking.hits)[: self.depth]
        pool = self.pool(query, ranking, hits, budget)
        meter, chooser, lost = Meter(), *self._with_states(hits)
        asked = self._likelihood(pool, meter)
        try:
            utility, problem, result = chooser._searched(pool, asked)
        except UNANSWERED as error:
            if asked is None:
                raise
            asked, lost = None, (*lost, f"chosen without the likelihood of the question: {error}")
            utility, problem, result = chooser._searched(pool, asked)
        known = always if asked is None else asked.knows
        choice = explained(self.name or self.searcher, problem, utility, result, ranking, hits, known)
        choice = replace(choice, tokens=meter.prefill)
        arranged = self._arranged(hits, result)
        read = sum(self.encoder.count_tokens(pool.texts)) if self.encoder else 0
        report = StageReport(
            "select",
            time.perf_counter() - started,
            len(ranking),
            len(arranged),
            read + meter.prefill,
            "; ".join(lost),
            passes=meter.passes,
            peak_mb=round(meter.peak_bytes / 2**20, 3),
            notes=(self._note(result),),
            cache_mode=meter.reuse.mode,
            reused=meter.reuse.reused,
            recomputed=round(meter.reuse.recomputed, 4),
        )
        return Context(arranged, spent(arranged, self.count), budget, ranking, report, choice)

    def _searched(self, pool: Pool, asked: Likelihood | None) -> tuple[WeightedSum, Problem, Result]:
        utility = self.utility(pool, asked)
        problem = self.problem(pool, utility, asked)
        return utility, problem, solve(problem, SEARCHERS[self.searcher], within_deadline(self.limits))

    def _with_states(self, hits: Sequence[Hit]) -> tuple[SetSelector, tuple[str, ...]]:
        """Itself with what is kept of the hits looked up once; without the term, and why, where nobody can say."""
        if self.kept is None or not self.weights.ttft:
            return self, ()
        try:
            kept = self.kept([hit.chunk for hit in hits])
        except UNANSWERED as error:
            return replace(self, kept=None), (f"chosen without the wait for the first token: {error}",)
        return replace(self, kept=lambda _: kept), ()

    def _likelihood(self, pool: Pool, meter: Meter) -> Likelihood | None:
        """The term by the language model, None where its weight is 0 or there is no model to ask."""
        if self.reader is None or not self.weights.likelihood:
            return None
        chunks = [hit.chunk for hit in pool.hits]
        return Likelihood(self.reader, pool.query.text, chunks, self.passage_tokens, meter)

    def pool(self, query: Query, ranking: Ranking, hits: Sequence[Hit], budget: int) -> Pool:
        """What is read off ``hits``, which stand in ``ranking``; candidate i is hits[i]."""
        cost, free = tuple(costs(hits, self.count)), room(budget, self.count)
        return Pool(query, ranking, hits, cost, free, self.encoder, self.order)

    def utility(self, pool: Pool, asked: Likelihood | None = None) -> WeightedSum:
        """The terms whose weight is not 0; the others are never made. ``asked`` is the one by the language model."""
        makers = pool.terms() | ({"order": pool.disorder} if self.ordered else {})
        if self.kept is not None:
            kept = self.kept
            makers["ttft"] = lambda: pool.waiting(kept([hit.chunk for hit in pool.hits]))
        terms: dict[str, Term] = {name: make() for name, make in makers.items() if getattr(self.weights, name)}
        if asked is not None:
            terms["likelihood"] = asked
        return WeightedSum.of(self.weights, **terms)

    def problem(self, pool: Pool, utility: WeightedSum, asked: Likelihood | None = None) -> Problem:
        """The choice as a search problem."""
        return Problem(
            costs=pool.costs,
            budget=pool.budget,
            utility=utility,
            most=self.most,
            ordered=self.ordered,
            reads=reads_nothing if asked is None else asked.reads,
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
