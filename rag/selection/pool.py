"""The candidates of one question as a search problem: what is read off them once, before any set is valued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from indexes.encoding import TextEncoder
from rag.selection.features import aspects, cosine_similarity, minhash_similarity, subquestions
from rag.selection.ordering import Order, arrange
from rag.selection.problem import prompt_tokens
from rag.selection.terms import (
    Array,
    Bridges,
    Coverage,
    Disorder,
    Gathered,
    Redundancy,
    Term,
    TokenCost,
    most_gathered,
)
from rag.selection.titles import links, named
from rag.selection.waiting import waiting
from rag.values import Hit, Query, Ranking, ScoreKind

FOUND = 0.5
NEAR_COSINE, NEAR_JACCARD = 0.7, 0.2
"""From where on two chunks repeat each other: cosines of a sentence encoder, Jaccard indices of word pairs."""


@dataclass(frozen=True)
class Pool:
    """Candidate i is hits[i]; costs in tokens of its entry in the prompt.

    A chunk covers a term, a name or a clause of the question as far as it is relevant: p_ia = relevance_i * match_ia.
    Tokens count as a share of what can be spent: the budget, or all candidates where they are less, so that what is of
    no use stays out of a wide budget as well.
    """

    query: Query
    ranking: Ranking
    hits: Sequence[Hit]
    costs: tuple[int, ...]
    budget: int
    encoder: TextEncoder | None = None
    order: Order = "score"

    @cached_property
    def relevance(self) -> Array:
        """(n,) in [0, 1]. What BM25 finds best is FOUND at least: in a small collection even that scores low."""
        found = np.array([self.ranking.relevance(hit) for hit in self.hits], dtype=np.float64)
        if self.ranking.kind is ScoreKind.BM25 and 0 < (best := found.max(initial=0.0)) < FOUND:
            found *= FOUND / best
        return found

    @cached_property
    def standing(self) -> Array:
        """(n,) relevance over log2(1 + rank), the discount of nDCG (Jarvelin & Kekalainen, TOIS 2002).

        Fused scores fall more slowly than the chance to be relevant: without it two of the middle outweigh the first.
        """
        return np.asarray(self.relevance / np.log2(np.arange(2, len(self.hits) + 2)))

    @cached_property
    def texts(self) -> list[str]:
        return [hit.chunk.content for hit in self.hits]

    @cached_property
    def titles(self) -> list[str]:
        return [hit.chunk.title for hit in self.hits]

    def terms(self) -> dict[str, Callable[[], Term]]:
        """Makers of the terms that need no model, by the names of their weights."""
        return {
            "coverage": lambda: self._covered(*aspects(self.query.text, self.texts)),
            "entities": lambda: self._covered(*named(self.query.text, self.titles)),
            "subquestions": lambda: self._covered(*subquestions(self.query.text, self.texts)),
            "relevance": self._gathered,
            "bridge": lambda: Bridges(links(self.query.text, self.titles, self.texts, self.relevance)),
            "redundancy": self._redundancy,
            "tokens": lambda: TokenCost(partial(prompt_tokens, costs=self.costs), self.spendable),
        }

    @property
    def spendable(self) -> int:
        """Tokens that a set can cost at most."""
        return min(self.budget, sum(self.costs))

    def waiting(self, kept: Sequence[bool]) -> Term:
        """Expected time to the first token, by the candidates whose states are kept."""
        return waiting(self.costs, kept, self.spendable)

    def disorder(self) -> Term:
        """Against the order that the pipeline would arrange its chunks in."""
        places = {hit.chunk.id: place for place, hit in enumerate(arrange(self.hits, self.order))}
        return Disorder(np.array([places[hit.chunk.id] for hit in self.hits], dtype=np.float64))

    def _gathered(self) -> Gathered:
        return Gathered(self.standing, most_gathered(self.standing, self.costs, self.budget))

    def _covered(self, weights: Array, matches: Array) -> Coverage:
        return Coverage(weights, matches * self.relevance)

    def _redundancy(self) -> Redundancy:
        if self.encoder is None:
            return Redundancy(minhash_similarity(self.texts), NEAR_JACCARD)
        return Redundancy(cosine_similarity(self.encoder.encode_passages(self.texts)), NEAR_COSINE)
