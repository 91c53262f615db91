"""Queries made from every passage, and the real train questions: what heads are taught with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rag.embedded_model.lists import ListSource
from rag.embedded_model.queries import ask

EACH = 6
"""Queries made from a passage."""
FIRST_SENTENCES = 5
"""Around one of them a query is made: what rerankers read of a passage is its beginning."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """A query and the passage it came from.

    left  the passage without what the query took from it; empty where it took nothing
    real  True where somebody asked
    """

    text: str
    place: int
    left: str
    real: bool = False


def pool(source: ListSource, at: int, seed: int) -> tuple[Pooled, ...]:
    """The queries of corpus ``at``, the same for the same seed; real ones, that are not held out, last."""
    corpus, random = source.corpora[at], Random(f"{seed}:{source.corpora[at].name}")  # noqa: S311
    found: list[Pooled] = []
    for place, passage in enumerate(corpus.passages):
        for _ in range(EACH if passage.sentences else 0):
            anchor = random.randrange(min(FIRST_SENTENCES, len(passage.sentences)))
            asked = ask(passage, source.near[at], random, anchor)
            if asked is not None:
                left = "" if asked.source == passage else asked.source.shown
                found.append(Pooled(asked.query, place, left))
    found += [Pooled(each.text, each.relevant[0], "", True) for each in source.questions(at)]
    return tuple(found)


def by_place(queries: Sequence[Pooled], *, taken: bool) -> dict[int, list[int]]:
    """Place of a passage -> indices of the made queries that took something from it, or of those that did not."""
    found: dict[int, list[int]] = {}
    for index, query in enumerate(queries):
        if not query.real and bool(query.left) == taken:
            found.setdefault(query.place, []).append(index)
    return found
