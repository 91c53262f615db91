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


def as_given(passages: Sequence[Passage]) -> Ranking:
    """The passages as hits in their order, all with score 0: nobody has ranked them. ``place_of`` leads back."""
    hits = tuple(Hit(_chunk(place, passage), 0.0) for place, passage in enumerate(passages))
    return Ranking(hits, ScoreKind.RANK, StageReport("given", n_out=len(hits)))


def place_of(hit: Hit) -> int:
    """Where in the list the hit's passage stood, from 0."""
    return int(hit.chunk.id)


def _chunk(place: int, passage: Passage) -> Chunk:
    text, title = clean_text(passage.text), clean_text(passage.title)
    return Chunk(f"{place:08d}", passage.id, text, 0, len(text), title)
