"""The utility of a chunk set: a weighted sum of terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag.selection.problem import Selection
from rag.selection.terms import Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each property counts. Benefits sum to 1 at most, penalties as well.

    coverage    of the question's terms: what makes a second chunk worth its tokens
    relevance   mean of the reranker's calibrated score: keeps out what matches words alone
    bridge      two chunks that share a name which the question lacks
    redundancy  repeated text
    tokens      share of the budget; 0.1 to 0.15 shortens a prompt without losing answers (Wang et al., ICDE 2026)
    order       of an ordered problem; small: on recent models the order hardly counts
    """

    coverage: float = 0.6
    relevance: float = 0.3
    bridge: float = 0.1
    redundancy: float = 0.3
    tokens: float = 0.1
    order: float = 0.02

    def __post_init__(self) -> None:
        benefits = (self.coverage, self.relevance, self.bridge)
        penalties = (self.redundancy, self.tokens, self.order)
        if min(benefits + penalties) < 0.0 or max(sum(benefits), sum(penalties)) > 1.0 + 1e-9:
            raise ValueError(f"{self}: weights are 0 or more; benefits sum to 1 at most, penalties as well")


PENALTIES = ("redundancy", "tokens", "order")


@dataclass(frozen=True)
class WeightedSum:
    """Utility of selections: the sum of weight times term, a penalty being a term with a negative weight."""

    terms: tuple[tuple[float, Term], ...]

    @classmethod
    def of(cls, weights: Weights, **terms: Term) -> WeightedSum:
        """Each term under the name of its weight; a name without a term counts nothing."""
        return cls(
            tuple((getattr(weights, name) * (-1.0 if name in PENALTIES else 1.0), term) for name, term in terms.items())
        )

    def __call__(self, selections: Sequence[Selection]) -> list[float]:
        total = np.zeros(len(selections))
        for weight, term in self.terms:
            total += weight * term(selections)
        return [float(value) for value in total]

    def bound(self, chosen: Selection, others: Sequence[int]) -> float:
        """No selection from ``chosen`` to ``chosen`` with all ``others`` is worth more."""
        return sum(
            weight * (term.most(chosen, others) if weight > 0.0 else term.least(chosen, others))
            for weight, term in self.terms
        )
