"""What titles say: which candidates a question names, and which chunk names another one's title."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rag.runtime.lexical import STOP
from rag.selection.features import words
from rag.selection.terms import Array

BRIDGE = 0.5
"""Chance that a chunk which names another's title leads to it, where nothing else does and it is wholly relevant."""

_QUALIFIER = re.compile(r"\s*\([^()]*\)\s*$")
"""As in "Mercury (planet)": texts do not repeat it."""
_LEAST_NAME = 3


def name_of(title: str) -> str:
    """The words of a title as texts write it, without a qualifier in brackets; "" where they would be found anywhere.

    That is a title with no word of three characters and content.
    """
    found = words(_QUALIFIER.sub("", title))
    telling = any(len(word) >= _LEAST_NAME and word not in STOP for word in found)
    return " ".join(found) if telling else ""


def named(question: str, titles: Sequence[str]) -> tuple[Array, Array]:
    """The names in the question: equal weights (k,), and (k, n) 1 where the name is that of a candidate's title.

    A name within a longer one that the question holds too is none: "Guitar World" is not about "Guitar".
    """
    asked = _spaced(question)
    names = [name_of(title) for title in titles]
    found = [name for name in dict.fromkeys(names) if name and f" {name} " in asked]
    whole = [name for name in found if not any(name != other and f" {name} " in f" {other} " for other in found)]
    matches = np.array([[float(name == other) for other in names] for name in whole], dtype=np.float64)
    return np.ones(len(whole)), matches.reshape(len(whole), len(titles))


def links(question: str, titles: Sequence[str], texts: Sequence[str], relevance: Array) -> Array:
    """(n, n) symmetric: how likely i leads to j, or j to i, because its text names the other's title.

    BRIDGE * relevance of the one that names * IDF of the name among the texts, a name in one text only being 1.
    None where the question holds the name itself, or both have one title. relevance (n,) in [0, 1].
    """
    n = len(titles)
    asked, spaced = _spaced(question), [_spaced(text) for text in texts]
    names = [name_of(title) for title in titles]
    strength = np.zeros((n, n))
    for j, name in enumerate(names):
        if not name or f" {name} " in asked:
            continue
        by = [i for i in range(n) if names[i] != name and f" {name} " in spaced[i]]
        for i in by:
            strength[i, j] = BRIDGE * relevance[i] * _idf(len(by), n) / _idf(1, n)
    return np.asarray(np.maximum(strength, strength.T))


def _spaced(text: str) -> str:
    """Words with a blank on both sides, so that a phrase is found at word boundaries."""
    return f" {' '.join(words(text))} "


def _idf(df: int, n: int) -> float:
    return float(np.log1p((n - df + 0.5) / (df + 0.5)))
