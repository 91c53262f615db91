"""The wait for the first token: what of a set the model has yet to read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rag.selection.terms import Gathered

LOAD = 0.05
"""What a token whose states are kept costs, in tokens of prefill: loading is 20 times faster than reading, about what
the benchmark of chunk states measured on two cores."""


def waiting(costs: Sequence[int], kept: Sequence[bool], whole: int) -> Gathered:
    """Expected time to the first token as a share of reading ``whole`` tokens; at most 1.

    costs  tokens of each candidate;  kept  whether its states are in the store
    """
    tokens = np.array([cost * (LOAD if there else 1.0) for cost, there in zip(costs, kept, strict=True)])
    return Gathered(tokens.astype(np.float64), float(max(1, whole)))
