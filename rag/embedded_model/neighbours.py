"""BM25 in memory: which passages of a corpus look like a query (Robertson & Zaragoza, 2009)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

K1, B = 0.9, 0.4
_STOPPED = """
a an and are as at be but by for from if in into is it no not of on or such that the their then there these they
this to was will with we were has have had been can which our
"""
_STOP = frozenset(_STOPPED.split())
_WORD = re.compile(r"\w+")


def terms(text: str) -> list[str]:
    """Lower-case words without stop words, a plural's ending cut."""
    return [_singular(word) for word in _WORD.findall(text.lower()) if word not in _STOP]


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


class Neighbours:
    """An inverted file of weights; ``df`` tells in how many texts a term occurs."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(terms(text)) for text in texts]
        lengths = np.array([count.total() for count in counts], dtype=np.float64)
        self.size = len(texts)
        self.df: Counter[str] = Counter(term for count in counts for term in count)
        norm = K1 * (1 - B + B * lengths / max(1.0, float(lengths.mean()) if len(lengths) else 1.0))
        listed: dict[str, tuple[list[int], list[float]]] = {term: ([], []) for term in self.df}
        for at, count in enumerate(counts):
            for term, often in count.items():
                places, weights = listed[term]
                places.append(at)
                weights.append(often / (often + norm[at]))
        self._lists = {
            term: (np.array(places, dtype=np.int64), np.array(weights) * self._idf(term))
            for term, (places, weights) in listed.items()
        }

    def _idf(self, term: str) -> float:
        return float(np.log1p((self.size - self.df[term] + 0.5) / (self.df[term] + 0.5)))

    def scores(self, query: str) -> NDArray[np.float64]:
        """(passages,) float64."""
        total = np.zeros(self.size)
        for term in terms(query):
            if term in self._lists:
                places, weights = self._lists[term]
                total[places] += weights
        return total

    def best(self, query: str, depth: int) -> list[tuple[int, float]]:
        """The ``depth`` best passages that share a term with the query, best first, ties by place."""
        scores = self.scores(query)
        count = min(depth, len(scores))
        if not count:
            return []
        top = np.argpartition(-scores, count - 1)[:count]
        ordered = sorted(top.tolist(), key=lambda at: (-scores[at], at))
        return [(at, float(scores[at])) for at in ordered if scores[at] > 0]

    def rare(self, text: str, most: float = 0.05) -> list[str]:
        """The text's terms that others have too, but at most that share of them; rarest first, ties by name."""
        limit = max(2.0, most * self.size)
        found = {term for term in terms(text) if 2 <= self.df[term] <= limit and not term.isdigit()}
        return sorted(found, key=lambda term: (self.df[term], term))
