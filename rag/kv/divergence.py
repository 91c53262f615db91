"""How far two answers of one model lie apart: next-token distributions, and rankings. Plain arithmetic in float64."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Wide = NDArray[np.float64]


def log_softmax(logits: Array) -> Wide:
    """(rows, vocabulary) log-probabilities."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    found: Wide = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return found


def divergences(full: Array, other: Array) -> Wide:
    """(rows,) KL(full || other) of each row's distribution, in nats, at least 0 up to rounding.

    full, other  (rows, vocabulary) logits
    """
    p, q = log_softmax(full), log_softmax(other)
    found: Wide = (np.exp(p) * (p - q)).sum(axis=-1)
    return found


def agreements(full: Array, other: Array) -> NDArray[np.bool_]:
    """(rows,) whether the most likely token is the same; of equals the lowest id counts."""
    found: NDArray[np.bool_] = full.argmax(axis=-1) == other.argmax(axis=-1)
    return found


def losses(logits: Array, tokens: Sequence[int]) -> Wide:
    """(rows,) negative log-likelihood of one token a row, in nats."""
    found: Wide = -log_softmax(logits)[np.arange(len(tokens)), list(tokens)]
    return found


def kendall_tau(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Kendall's tau of two orders of the same things: 1 equal, -1 reversed; 1 for fewer than two.

    Raises ValueError where they are not the same things, each once.
    """
    place = {thing: at for at, thing in enumerate(other)}
    if len(place) != len(other) or len(one) != len(other) or set(one) != set(place):
        raise ValueError("Kendall's tau compares two orders of the same things, each once")
    pairs = list(combinations([place[thing] for thing in one], 2))
    return sum(1 if a < b else -1 for a, b in pairs) / len(pairs) if pairs else 1.0


def top_overlap(one: Sequence[Hashable], other: Sequence[Hashable], k: int = 10) -> float:
    """The share of the k first of one order that are among the k first of the other; 1 where there are none."""
    first = set(one[:k])
    return len(first.intersection(other[:k])) / len(first) if first else 1.0
