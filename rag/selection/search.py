"""Selection by search: the chunk set with the largest utility within the token budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from indexes.encoding import TextEncoder
from rag.protocols import Selector, TokenCounter
from rag.selection.cost import costs, readable, spent
from rag.selection.evaluator import solve
from rag.selection.features import aspects, bridges, cosine_similarity, minhash_similarity
from rag.selection.ordering import Order, arrange
from rag.selection.portfolio import SEARCHERS
from rag.selection.problem import Limits, Problem, Result, prompt_tokens
from rag.selection.terms import Average, Bridges, Coverage, Redundancy, TokenCost
from rag.selection.utility import WeightedSum, Weights
from rag.values import Context, Hit, Query, Ranking, StageReport

NEAR_COSINE, NEAR_JACCARD = 0.7, 0.2
"""From where on two chunks repeat each other: cosines of a sentence encoder, Jaccard indices of word pairs."""


@dataclass(frozen=True, kw_only=True)
class SetSelector(Selector):
    """The best set found among the ``depth`` best chunks; what is worth less than its tokens stays out.

    encoder   compares chunks by cosine; without one they are compared by MinHash
    searcher  a name of ``SEARCHERS``;  most  largest number of chunks
    limits    of the search; with a time limit the same question may get another set
    """

    count: TokenCounter
    encoder: TextEncoder | None = None
    order: Order = "score"
    searcher: str = "portfolio"
    weights: Weights = Weights()
    limits: Limits = Limits()
    depth: int = 30
    most: int = 12

    def __post_init__(self) -> None:
        if self.searcher not in SEARCHERS:
            raise ValueError(f"no searcher {self.searcher!r}; there are {', '.join(SEARCHERS)}")
        if min(self.depth, self.most) < 1:
            raise ValueError(f"depth = {self.depth}, most = {self.most}; both are at least 1")

    def select(self, query: Query, ranking: Ranking, budget: int) -> Context:
        started = time.perf_counter()
        hits = readable(ranking.hits)[: self.depth]
        result = solve(self.problem(query, ranking, hits, budget), SEARCHERS[self.searcher], self.limits)
        arranged = arrange([hits[i] for i in sorted(result.chosen)], self.order)
        read = sum(self.encoder.count_tokens([hit.chunk.content for hit in hits])) if self.encoder else 0
        seconds = time.perf_counter() - started
        notes = (self._note(result),)
        report = StageReport("select", seconds, len(ranking), len(arranged), read + result.tokens, notes=notes)
        return Context(arranged, spent(arranged, self.count), budget, ranking, report)

    def problem(self, query: Query, ranking: Ranking, hits: Sequence[Hit], budget: int) -> Problem:
        """The choice among ``hits``, which stand in ``ranking``, as a search problem; candidate i is hits[i].

        A chunk covers a term of the question as far as it is relevant: p_ia = relevance_i where it holds the term.
        """
        texts = [hit.chunk.content for hit in hits]
        tokens = tuple(costs(hits, self.count))
        relevance = np.array([ranking.relevance(hit) for hit in hits], dtype=np.float64)
        weights, matches = aspects(query.text, texts)
        utility = WeightedSum.of(
            self.weights,
            coverage=Coverage(weights, matches * relevance),
            relevance=Average(relevance),
            bridge=Bridges(bridges(query.text, texts, matches)),
            redundancy=self._redundancy(texts),
            tokens=TokenCost(partial(prompt_tokens, costs=tokens), budget),
        )
        return Problem(costs=tokens, budget=budget, utility=utility, most=self.most, bound=utility.bound)

    def _redundancy(self, texts: Sequence[str]) -> Redundancy:
        if self.encoder is None:
            return Redundancy(minhash_similarity(texts), NEAR_JACCARD)
        return Redundancy(cosine_similarity(self.encoder.encode_passages(texts)), NEAR_COSINE)

    def _note(self, result: Result) -> str:
        end = "optimal" if result.optimal else "ended" if result.complete else "stopped at its limit"
        return f"{self.searcher}: utility {result.value:.4f} after {result.evaluations} evaluations, {end}"
