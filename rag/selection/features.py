"""What the texts of a question and its candidates say about coverage, repetition and bridges: words only, no model."""

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
BRIDGE = 0.5
"""Chance that two chunks which look like a bridge are one."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
"""Runs of letters and digits; kana and Chinese characters one by one."""
_LEAST_NAME = 3


def terms(text: str) -> list[str]:
    """Content words in lower case, each once, by first occurrence; all words where none has content."""
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))
    return [word for word in words if word not in STOP] or words


def aspects(question: str, texts: Sequence[str]) -> tuple[Array, Array]:
    """The question's terms that any text holds: IDF weights (a,) over the texts, and (a, n) 1 where a text holds one.

    idf = log(1 + (n - df + 0.5) / (df + 0.5)), always above 0.
    """
    vocabularies = [{word.lower() for word in _WORD.findall(text)} for text in texts]
    found = [term for term in terms(question) if any(term in words for words in vocabularies)]
    matches = np.array([[float(term in words) for words in vocabularies] for term in found], dtype=np.float64)
    matches = matches.reshape(len(found), len(texts))
    df = matches.sum(axis=1)
    return np.log1p((len(texts) - df + 0.5) / (df + 0.5)), matches


def names(text: str) -> set[str]:
    """Words that look like names: capitalised or with a digit, at least three characters, no stop word; lower case."""
    found = (word for word in _WORD.findall(text) if word[0].isupper() or any(map(str.isdigit, word)))
    return {word.lower() for word in found if len(word) >= _LEAST_NAME and word.lower() not in STOP}


def bridges(question: str, texts: Sequence[str], matches: Array) -> Array:
    """(n, n) BRIDGE where two texts share a name that the question lacks and each covers an aspect the other does not.

    matches (a, n) as ``aspects`` gives it.
    """
    asked = {word.lower() for word in _WORD.findall(question)}
    named = [names(text) - asked for text in texts]
    strength = np.zeros((len(texts), len(texts)))
    for j in range(len(texts)):
        for i in range(j):
            only_i, only_j = matches[:, i] > matches[:, j], matches[:, j] > matches[:, i]
            if named[i] & named[j] and only_i.any() and only_j.any():
                strength[i, j] = strength[j, i] = BRIDGE
    return strength


def shingles(text: str) -> set[str]:
    """Pairs of neighbouring words in lower case; the word where there is one only."""
    words = [word.lower() for word in _WORD.findall(text)]
    return {f"{a} {b}" for a, b in pairwise(words)} or set(words)


def minhash_similarity(texts: Sequence[str], permutations: int = PERMUTATIONS) -> Array:
    """(n, n) estimated Jaccard index of the texts' shingles; 1 on the diagonal, 0 for a text without words.

    Broder 1997: the share of hash functions whose minimum agrees. The functions are fixed.
    """
    signatures = [signature(shingles(text), permutations) for text in texts]
    similarity = np.eye(len(texts))
    for j in range(len(texts)):
        for i in range(j):
            a, b = signatures[i], signatures[j]
            similarity[i, j] = similarity[j, i] = float(np.mean(a == b)) if len(a) and len(b) else 0.0
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
