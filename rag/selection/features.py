"""What the texts of a question and its candidates say about coverage and repetition: words only, no model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from rag.runtime.lexical import STOP
from rag.selection.terms import Array

PERMUTATIONS = 128
"""Hash functions of a MinHash; the estimate's standard error is at most 0.5 / sqrt(128), about 0.044."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
"""Runs of letters and digits; kana and Chinese characters one by one."""
_CLAUSES = re.compile(r"[,;:?.!]|\b(?:and|or|but|that|who|whose|whom|which|where|when|while)\b", re.IGNORECASE)


def words(text: str) -> list[str]:
    """All words in lower case, in order."""
    return [word.lower() for word in _WORD.findall(text)]


def terms(text: str) -> list[str]:
    """Content words in lower case, each once, by first occurrence; all words where none has content."""
    each = list(dict.fromkeys(words(text)))
    return [word for word in each if word not in STOP] or each


def found(question: str, texts: Sequence[str]) -> list[str]:
    """The question's terms that any text holds."""
    known = {word for text in texts for word in words(text)}
    return [term for term in terms(question) if term in known]


def aspects(question: str, texts: Sequence[str]) -> tuple[Array, Array]:
    """The question's terms that any text holds: IDF weights (a,) over the texts, and (a, n) 1 where a text holds one.

    idf = log(1 + (n - df + 0.5) / (df + 0.5)), always above 0.
    """
    vocabularies = [set(words(text)) for text in texts]
    held = found(question, texts)
    matches = np.array([[float(term in known) for known in vocabularies] for term in held], dtype=np.float64)
    matches = matches.reshape(len(held), len(texts))
    df = matches.sum(axis=1)
    return np.log1p((len(texts) - df + 0.5) / (df + 0.5)), matches


def subquestions(question: str, texts: Sequence[str]) -> tuple[Array, Array]:
    """The question's clauses: weights (c,), the sum of their terms' IDF, and (c, n) the share of it that a text holds.

    Clauses end at punctuation and at and, or, but, that, who, which, where, when, while. One with fewer than two terms
    that any text holds is left out; a question of a single clause has none, its terms say the same.
    """
    weights, matches = aspects(question, texts)
    rows = {term: row for row, term in enumerate(found(question, texts))}
    clauses = [[rows[term] for term in terms(clause) if term in rows] for clause in _CLAUSES.split(question)]
    clauses = [clause for clause in clauses if len(clause) > 1]
    if len(clauses) < 2:
        return np.zeros(0), np.zeros((0, len(texts)))
    sums = np.array([weights[clause].sum() for clause in clauses])
    shares = np.array([weights[clause] @ matches[clause] for clause in clauses])
    return sums, (shares / sums[:, None]).clip(0.0, 1.0)


def shingles(text: str) -> set[str]:
    """Pairs of neighbouring words in lower case; the word where there is one only."""
    row = words(text)
    return {f"{a} {b}" for a, b in pairwise(row)} or set(row)


def minhash_similarity(texts: Sequence[str], permutations: int = PERMUTATIONS) -> Array:
    """(n, n) estimated Jaccard index of the texts' shingles; 1 on the diagonal, 0 for a text without words.

    Broder 1997: the share of hash functions whose minimum agrees. The functions are fixed.
    """
    signatures = [signature(shingles(text), permutations) for text in texts]
    places = [i for i, found in enumerate(signatures) if len(found)]
    similarity = np.eye(len(texts))
    for i in places:
        similarity[i, places] = np.mean([signatures[i] == signatures[j] for j in places], axis=1)
    return similarity


def signature(items: set[str], permutations: int = PERMUTATIONS) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """(permutations,) least value of each hash function over the items; empty without items.

    h(x) = the upper 32 bits of a x + b modulo 2^64 (multiply-shift), x being 64 bits of BLAKE2b.
    """
    if not items:
        return np.zeros(0, dtype=np.uint64)
    x = np.array([int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8).digest()) for i in sorted(items)], "u8")
    draw = np.random.default_rng(0)
    a = draw.integers(0, 2**63, permutations, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    b = draw.integers(0, 2**64, permutations, dtype=np.uint64)
    hashed = (a[:, None] * x[None, :] + b[:, None]) >> np.uint64(32)
    return np.asarray(hashed.min(axis=1), dtype=np.uint64)


def cosine_similarity(vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Array:
    """(n, n) cosines of unit rows (n, d), within [-1, 1]."""
    rows = np.asarray(vectors, dtype=np.float64)
    return np.asarray((rows @ rows.T).clip(-1.0, 1.0))
