"""What a text encoder and BM25 think of passages: soft targets of the heads' attention."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexes.durable import write_atomic
from rag.embedded_model.lists import ListSource
from rag.encoders import SentenceEncoder

Array = NDArray[np.float32]

LICENCE = "teacher of the attention: all-MiniLM-L6-v2, Apache-2.0 (Reimers & Gurevych, EMNLP 2019)"
WORDS = 80
"""Of a passage, that are encoded."""
TEMPERATURE = 0.15
"""Of scores between 0 and 1: the best of 16 passages gets about half."""
REAL, MADE = 0.5, 0.25
"""Share of a target that is the known relevant passage's, for real questions and for made ones."""
OUT = -1.0
"""In a target: the passage is not among those that are compared."""


class Teacher:
    """Vectors of a corpus' passages and of queries; each is computed once, and kept in ``folder``."""

    def __init__(self, source: ListSource, folder: Path, encoder: SentenceEncoder) -> None:
        self._source, self._folder, self._encoder = source, folder, encoder

    def passages(self, at: int) -> Array:
        """(passages, dimension) float32, of the passages' beginnings."""
        corpus = self._source.corpora[at]
        return self._kept(f"teacher-{corpus.name}.npy", [_beginning(each.shown) for each in corpus.passages])

    def queries(self, at: int, texts: Sequence[str]) -> Array:
        """(queries, dimension) float32."""
        return self._kept(f"teacher-{self._source.corpora[at].name}-queries.npy", texts)

    def _kept(self, name: str, texts: Sequence[str]) -> Array:
        path = self._folder / name
        if not path.is_file():
            written = io.BytesIO()
            np.save(written, self._encoder.encode_passages(texts).astype(np.float16))
            write_atomic(path, written.getvalue())
        vectors: Array = np.load(path).astype(np.float32)
        return vectors


def target(bm25: ArrayLike, cosine: ArrayLike, relevant: int, share: float, *, out: bool = False) -> Array:
    """(passages,) float32 that adds up to 1: ``share`` on the relevant passage, the rest as both scores say.

    ``out``: the relevant passage is left out (OUT), so that what is taught is the order of the others.
    """
    kept = np.ones(len(np.asarray(bm25)), dtype=bool)
    kept[relevant] = not out
    scores = (unit(np.asarray(bm25)[kept]) + unit(np.asarray(cosine)[kept])) / 2
    weights = np.exp((scores - scores.max()) / TEMPERATURE)
    found = np.full(len(kept), OUT)
    found[kept] = weights / weights.sum() * (1.0 if out else 1 - share)
    if not out:
        found[relevant] += share
    return found.astype(np.float32)


def unit(values: ArrayLike) -> NDArray[np.float64]:
    """Between 0 and 1; all 0 where all are equal."""
    found = np.asarray(values, dtype=np.float64)
    width = float(found.max() - found.min())
    return (found - found.min()) / width if width > 0 else np.zeros_like(found)


def _beginning(text: str) -> str:
    return " ".join(text.split()[:WORDS])
