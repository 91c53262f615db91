"""Measures that ir-measures has not, under names of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.trec import Scored


@dataclass(frozen=True, slots=True)
class RankDiscountedGain:
    """``LitSearchNDCG@k``: the nDCG of LitSearch's own code, which is no nDCG of TREC's.

    Gains are 1 for a relevant document, discounted by 1/rank; the ideal is over all relevant documents, cut nowhere.
    """

    cutoff: int

    def __str__(self) -> str:
        return f"LitSearchNDCG@{self.cutoff}"

    def value(self, grades: Mapping[str, int], documents: Sequence[Scored]) -> float:
        """Of one query; 0 where nothing is relevant."""
        relevant = {doc_id for doc_id, grade in grades.items() if grade > 0}
        ranked = enumerate(documents[: self.cutoff], start=1)
        gained = sum(1 / rank for rank, document in ranked if document.doc_id in relevant)
        ideal = sum(1 / rank for rank in range(1, len(relevant) + 1))
        return gained / ideal if relevant else 0.0


def own_measure(name: str) -> RankDiscountedGain | None:
    """The measure of that name, None where it is none of these."""
    found = re.fullmatch(r"LitSearchNDCG@([1-9]\d*)", name)
    return RankDiscountedGain(int(found[1])) if found else None
