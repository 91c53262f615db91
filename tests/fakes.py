"""Deterministic stand-ins that are real implementations: no model, no network, no randomness."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from indexes.corpus import Document
from indexes.encoding import Matrix
from indexes.readers.source import Report

_WORD = re.compile(r"\w+")


class HashingEncoder:
    """Bags of words hashed into unit vectors: texts that share words are near each other. A TextEncoder.

    Each word adds +1 or -1 to one of ``dimension`` places; a text without words is the first axis.
    seconds  pause before each batch, to be killed in
    """

    def __init__(self, dimension: int = 64, *, seed: str = "", seconds: float = 0.0) -> None:
        self._dimension = dimension
        self._seed = seed
        self._seconds = seconds
        self.encoded: list[str] = []

    @property
    def name(self) -> str:
        return "words"

    @property
    def fingerprint(self) -> str:
        return f"hashing-{self._dimension}{self._seed}"

    @property
    def dimension(self) -> int:
        return self._dimension

    def encode_passages(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Matrix:
        """(n, dimension) float32 of unit length. The texts are noted in ``encoded``."""
        time.sleep(self._seconds)
        self.encoded += texts
        out = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for i, text in enumerate(texts):
            out[i] = self.encode_query(text)
        if progress:
            progress(len(texts))
        return out

    def encode_query(self, text: str) -> Matrix:
        """(dimension,) float32 of unit length."""
        vector = np.zeros(self._dimension, dtype=np.float32)
        for word in _WORD.findall(text.lower()):
            digest = int.from_bytes(hashlib.blake2b(f"{self._seed}{word}".encode(), digest_size=8).digest())
            vector[digest % self._dimension] += 1.0 if digest >> 63 else -1.0
        if not vector.any():
            vector[0] = 1.0
        unit: Matrix = vector / np.linalg.norm(vector)
        return unit.astype(np.float32)

    def encode_sentences(self, texts: Sequence[str]) -> Matrix:
        """As encode_passages, without noting them."""
        return np.stack([self.encode_query(text) for text in texts]) if texts else np.zeros((0, self._dimension), "<f4")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words of each text."""
        return [len(_WORD.findall(text)) for text in texts]

    __call__ = count_tokens


class ListSource:
    """Documents held in memory, as a Source. ``stamp`` stands for the time they were last changed."""

    def __init__(self, documents: Sequence[Document], stamp: str = "") -> None:
        self._documents = list(documents)
        self._stamp = stamp

    @property
    def name(self) -> str:
        return "list"

    def fingerprint(self) -> str:
        return f"{len(self._documents)}{self._stamp}"

    def count(self) -> int | None:
        return len(self._documents)

    def documents(self, skipped: Report) -> Iterator[Document]:
        return iter(self._documents)
