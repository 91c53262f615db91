"""Lists of passages that come without a retriever: as a Ranking in the order in which they were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from indexes.corpus import clean_text
from rag.values import Chunk, Hit, Ranking, ScoreKind, StageReport


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage to be ranked. Ids may be empty or occur twice: a passage is known by its place in the list."""

    text: str
    title: str = ""
    id: str = ""


def as_given(passages: Sequence[Passage], *, ranked: bool = False) -> Ranking:
    """The passages as hits in their order. ``place_of`` leads back to the list.

    ranked  the order is a first stage's: scores are n, n - 1, ... 1; else all are 0, for nobody has ranked them
    """
    n = len(passages)
    scores = [float(n - place) if ranked else 0.0 for place in range(n)]
    hits = tuple(Hit(_chunk(place, passages[place]), score) for place, score in enumerate(scores))
    return Ranking(hits, ScoreKind.RANK, StageReport("given", n_out=n), bound=float(max(1, n)))


def place_of(hit: Hit) -> int:
    """Where in the list the hit's passage stood, from 0."""
    return int(hit.chunk.id)


def _chunk(place: int, passage: Passage) -> Chunk:
    text, title = clean_text(passage.text), clean_text(passage.title)
    return Chunk(f"{place:08d}", passage.id, text, 0, len(text), title)
