"""Topics: passages that are hard to tell apart, with several queries and what a teacher thinks of each pair."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from rag.embedded_model.documentation import NAME as DOCUMENTATION
from rag.embedded_model.lists import ListSource
from rag.embedded_model.neighbours import Neighbours
from rag.embedded_model.pool import Pooled, by_place, pool
from rag.embedded_model.teacher import MADE, REAL, Array, Teacher, target

PASSAGES = 16
REAL_SHARE = 0.3
"""Of the topics of a corpus with questions, how many are around a real one."""
ALIKE = 0.7
"""Of the others, how many are a passage's neighbours by the teacher; the rest are BM25's neighbours of a query."""
NEIGHBOURS = 40
EASY = 0.15
"""Share of the passages that are any."""
WHOLE = 0.4
"""How often a passage that is shown without what a query took has a second query."""
LEFT_OUT = 0.7
"""How often a made query's own passage is left out of the comparison: finding one's own words is easily learnt."""
EMPTY = 0.2
"""How often a topic has the query without content, whose attention is to be even."""
SHARES = {"scifact": 0.5, "pubmedqa-l": 0.2, "hotpotqa-hippo-train": 0.3}


@dataclass(frozen=True, slots=True)
class Topic:
    """P passages and N queries.

    texts    of the passages, as rerankers show them;  queries  without the one without content
    wanted   (N, P) float32: shares of the attention that add up to 1, OUT at passages that are not compared
    passage_vectors (P, D), query_vectors (N, D)  the teacher's
    empty    the query without content is asked too
    """

    texts: tuple[str, ...]
    queries: tuple[str, ...]
    wanted: Array
    passage_vectors: Array
    query_vectors: Array
    empty: bool = False


class TopicSource:
    """Draws topics from all corpora but the documentation, or from that where there is no other."""

    def __init__(self, source: ListSource, teacher: Teacher, seed: int) -> None:
        names = [corpus.name for corpus in source.corpora]
        chosen = [at for at, name in enumerate(names) if name != DOCUMENTATION] or list(range(len(names)))
        self._weights = [SHARES.get(names[at], 0.1) for at in chosen]
        self._corpora = [_TopicCorpus(source, at, pool(source, at, seed), teacher) for at in chosen]

    @property
    def dimension(self) -> int:
        """Of the teacher's vectors."""
        return self._corpora[0].dimension

    def draw(self, random: Random) -> Topic:
        (corpus,) = random.choices(self._corpora, self._weights)
        return corpus.draw(random)


class _TopicCorpus:
    def __init__(self, source: ListSource, at: int, queries: tuple[Pooled, ...], teacher: Teacher) -> None:
        self._near: Neighbours = source.near[at]
        self._texts = [passage.shown for passage in source.corpora[at].passages]
        self._queries = queries
        self._passages = teacher.passages(at)
        self._asked = teacher.queries(at, [query.text for query in queries])
        self._alike = _nearest(self._passages)
        self._real = [index for index, query in enumerate(queries) if query.real]
        self._made = [index for index, query in enumerate(queries) if not query.real]
        self._taken, self._whole = by_place(queries, taken=True), by_place(queries, taken=False)

    @property
    def dimension(self) -> int:
        return int(self._passages.shape[1])

    def draw(self, random: Random) -> Topic:
        real = bool(self._real) and random.random() < REAL_SHARE
        first = random.choice(self._real if real else self._made)
        places = self._places(first, random, alike=not real and random.random() < ALIKE)
        texts, asked = [], [(first, places.index(self._queries[first].place))]
        for number, place in enumerate(places):
            text, others = self._shown(place, first, random)
            texts.append(text)
            asked += [(query, number) for query in others]
        indices = [query for query, _ in asked]
        return Topic(
            tuple(texts),
            tuple(self._queries[query].text for query in indices),
            np.stack([self._target(query, number, places, random) for query, number in asked]),
            self._passages[places],
            self._asked[indices],
            random.random() < EMPTY,
        )

    def _places(self, first: int, random: Random, *, alike: bool) -> list[int]:
        """PASSAGES of them, or all there are, with the query's own; nearer ones more often, in a random order."""
        own = self._queries[first].place
        best = self._near.best(self._queries[first].text, NEIGHBOURS + 10)
        near = self._alike[own].tolist() if alike else [place for place, _ in best if place != own]
        places = [own]
        while len(places) < min(PASSAGES, len(self._texts)):
            if near and random.random() > EASY:
                place = near.pop(int(len(near) * random.random() ** 1.5))
            else:
                place = random.randrange(len(self._texts))
            if place not in places:
                places.append(place)
        random.shuffle(places)
        return places

    def _shown(self, place: int, first: int, random: Random) -> tuple[str, list[int]]:
        """A passage as it is shown, and queries of it beside ``first``: those that it still answers."""
        if self._queries[first].place == place:
            return self._queries[first].left or self._texts[place], []
        taken, whole = self._taken.get(place), self._whole.get(place)
        found = [random.choice(taken)] if taken else []
        text = self._queries[found[0]].left if found else self._texts[place]
        if whole and (not found or random.random() < WHOLE):
            found.append(random.choice(whole))
        return text, found

    def _target(self, query: int, number: int, places: list[int], random: Random) -> Array:
        asked = self._queries[query]
        bm25 = self._near.scores(asked.text)[places]
        cosine = self._passages[places] @ self._asked[query]
        out = not asked.real and random.random() < LEFT_OUT
        return target(bm25, cosine, number, REAL if asked.real else MADE, out=out)


def _nearest(vectors: Array) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """(passages, NEIGHBOURS) int32: the others that are most alike, best first, computed a thousand rows at a time."""
    found = []
    for start in range(0, len(vectors), 1000):
        alike = vectors[start : start + 1000] @ vectors.T
        rows = np.arange(len(alike))
        alike[rows, start + rows] = -np.inf
        count = min(NEIGHBOURS, len(vectors) - 1)
        found.append(np.argsort(-alike, axis=1, kind="stable")[:, :count].astype(np.int32))
    return np.concatenate(found)
