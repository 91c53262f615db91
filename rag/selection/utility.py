"""The utility of a chunk set: a weighted sum of terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag.selection.problem import Selection
from rag.selection.terms import Term
from rag.selection_table import PENALTIES, Weights

__all__ = ["WeightedSum", "Weights"]


@dataclass(frozen=True)
class WeightedSum:
    """Utility of selections: the sum of weight times term, a penalty being a term with a negative weight.

    names  of the terms, for those who want to know what a value is made of
    """

    terms: tuple[tuple[float, Term], ...]
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, weights: Weights, **terms: Term) -> WeightedSum:
        """Each term under the name of its weight; a name without a term counts nothing."""
        signed = ((getattr(weights, name) * (-1.0 if name in PENALTIES else 1.0), term) for name, term in terms.items())
        return cls(tuple(signed), tuple(terms))

    def __call__(self, selections: Sequence[Selection]) -> list[float]:
        total = np.zeros(len(selections))
        for weight, term in self.terms:
            total += weight * term(selections)
        return [float(value) for value in total]

    def parts(self, selections: Sequence[Selection]) -> list[dict[str, float]]:
        """Of each selection what every named term adds to its utility, weight included; they sum to it."""
        values = {name: weight * term(selections) for name, (weight, term) in zip(self.names, self.terms, strict=True)}
        return [{name: float(column[row]) for name, column in values.items()} for row in range(len(selections))]

    def bound(self, chosen: Selection, others: Sequence[int]) -> float:
        """No selection from ``chosen`` to ``chosen`` with all ``others`` is worth more."""
        return sum(
            weight * (term.most(chosen, others) if weight > 0.0 else term.least(chosen, others))
            for weight, term in self.terms
        )
