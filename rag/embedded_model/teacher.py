"""What a text encoder and BM25 think of every passage of a list: soft targets of the attention loss."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexes.durable import write_atomic
from rag.embedded_model.examples import Example
from rag.embedded_model.lists import ListSource, PassageList
from rag.encoders import SentenceEncoder

Array = NDArray[np.float32]

LICENCE = "teacher of the attention: all-MiniLM-L6-v2, Apache-2.0 (Reimers & Gurevych, EMNLP 2019)"
WORDS = 80
"""Of a passage, that are encoded: about as many as a list shows."""
TEMPERATURE = 0.2
"""Of scores between 0 and 1: the best passage of a list gets about half."""
REAL, MADE = 0.5, 0.25
"""Share of a target that is the known relevant passage's, for real questions and for made ones."""


class Teacher:
    """Scores passages; each is encoded once, and its vector kept in ``folder``."""

    def __init__(self, source: ListSource, folder: Path, encoder: SentenceEncoder) -> None:
        self._source, self._encoder = source, encoder
        self._vectors = [
            _kept(folder / f"teacher-{corpus.name}.npy", [_beginning(each.shown) for each in corpus.passages], encoder)
            for corpus in source.corpora
        ]

    def judged(self, examples: Sequence[Example]) -> list[Example]:
        """The examples, with the teacher's targets at those that ask for one passage of a list."""
        queries = [query for each in examples if each.asked is not None for query in _queries(each.asked)]
        if not queries:
            return list(examples)
        vectors = dict(zip(queries, self._encoder.encode_passages(queries), strict=True))
        return [
            each if each.asked is None else replace(each, wanted=self._wanted(each, each.asked, vectors))
            for each in examples
        ]

    def _wanted(
        self, example: Example, asked: PassageList, vectors: Mapping[str, Array]
    ) -> tuple[tuple[float, ...], ...]:
        places = list(asked.places)
        passages = self._vectors[asked.corpus][places].astype(np.float32)
        found = []
        for number, (query, relevant) in enumerate(zip(_queries(asked), example.relevant, strict=True)):
            bm25 = self._source.near[asked.corpus].scores(query)[places]
            share = REAL if asked.real and number == 0 else MADE
            found.append(targets(bm25, passages @ vectors[query], relevant, share))
        return tuple(found)


def _queries(asked: PassageList) -> list[str]:
    return [asked.query, *(query for query, _ in asked.more)]


def targets(bm25: ArrayLike, cosine: ArrayLike, relevant: Sequence[int], share: float) -> tuple[float, ...]:
    """A distribution over passages: ``share`` on the relevant ones, the rest as both scores say."""
    scores = (_unit(bm25) + _unit(cosine)) / 2
    weights = np.exp((scores - scores.max()) / TEMPERATURE)
    soft = (1 - share) * weights / weights.sum()
    soft[list(relevant)] += share / len(relevant)
    return tuple(soft.tolist())


def _unit(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    width = float(found.max() - found.min())
    return (found - found.min()) / width if width > 0 else np.zeros_like(found)


def _beginning(text: str) -> str:
    return " ".join(text.split()[:WORDS])


def _kept(path: Path, texts: Sequence[str], encoder: SentenceEncoder) -> NDArray[np.float16]:
    """The vectors as the file has them; they are computed where there is none."""
    if not path.is_file():
        written = io.BytesIO()
        np.save(written, encoder.encode_passages(texts).astype(np.float16))
        write_atomic(path, written.getvalue())
    vectors: NDArray[np.float16] = np.load(path)
    return vectors
