"""Token vectors from the company that tokens keep: what embeddings start from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 8
"""Tokens to each side; one at distance d counts 1/d."""
SMOOTHED = 0.75
"""Power of the contexts' counts, so that rare ones do not stand out (Levy, Goldberg & Dagan, TACL 2015)."""


def token_vectors(texts: Iterable[Sequence[int]], vocabulary: int, width: int) -> NDArray[np.float32]:
    """(vocabulary, width) rows of length sqrt(width), the same for the same texts; 0 for tokens without company.

    Positive pointwise mutual information, reduced to its ``width`` largest eigenvalues: U sqrt(w), Levy et al., 2015.
    """
    from scipy.sparse.linalg import eigsh  # type: ignore[import-untyped]

    information = _information(_counts(texts, vocabulary))
    start = np.random.default_rng(0).standard_normal(vocabulary)
    values, vectors = eigsh(information, k=min(width, vocabulary - 1), which="LA", v0=start)
    rows = vectors * np.sqrt(np.maximum(values, 0.0))
    out = np.zeros((vocabulary, width), dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    out[:, : rows.shape[1]] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-6) * width**0.5
    return out


def _counts(texts: Iterable[Sequence[int]], vocabulary: int) -> Any:
    """Symmetric sparse (vocabulary, vocabulary): weighted counts of pairs."""
    from scipy.sparse import coo_array  # type: ignore[import-untyped]

    rows = [np.asarray(ids, dtype=np.int32) for ids in texts]
    total = coo_array((vocabulary, vocabulary), dtype=np.float64).tocsr()
    for apart in range(1, WINDOW + 1):
        long = [row for row in rows if len(row) > apart]
        if long:
            left, right = (np.concatenate([row[cut] for row in long]) for cut in (np.s_[:-apart], np.s_[apart:]))
            shape = (vocabulary, vocabulary)
            total = total + coo_array((np.full(len(left), 1 / apart), (left, right)), shape=shape).tocsr()
    return total + total.T


def _information(counts: Any) -> Any:
    """log p(a, b) / (p(a) p'(b)) where it is positive; p' smoothed; made symmetric."""
    from scipy.sparse import coo_array

    often = np.asarray(counts.sum(axis=1)).ravel()
    context = often**SMOOTHED
    context = context / max(context.sum(), 1e-12)
    pairs = counts.tocoo()
    information = np.log(pairs.data / (often[pairs.row] * context[pairs.col]))
    kept = information > 0
    found = coo_array((information[kept], (pairs.row[kept], pairs.col[kept])), shape=counts.shape).tocsr()
    return (found + found.T) / 2
