"""Lists of passages with a query: made from corpora, relevant ones among passages that look like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rag.embedded_model.neighbours import Neighbours, terms
from rag.embedded_model.passages import Corpus, Passage, Question, shown
from rag.embedded_model.queries import Asked, ask, dropped

DEV_QUESTIONS = 100
"""Real train questions that are held out, the first of a fixed order."""
REAL_SHARE = 0.3
"""Of the lists of a corpus with questions, how many ask a real one."""
DEPTH = 50
"""Hard negatives are among so many BM25 neighbours."""
RANDOM_NEGATIVES = 0.2
"""Share of the negatives that are any passage, where nothing else is asked for."""
MORE = 1.0
"""Other queries of a list, as a share of its passages, which are computed once for all of them."""
WORDS_PER_TOKEN = 0.7
SHARES = {"scifact": 0.5, "documentation": 0.25, "pubmedqa-l": 0.15, "hotpotqa-hippo-train": 0.1}
"""How often a list is taken from each corpus."""


@dataclass(frozen=True, slots=True)
class PassageList:
    """What one prompt asks about.

    texts     as rerankers show them;  relevant  indices of them
    quote     words that stand in the first relevant one's beginning or best sentence
    more      other queries, made from other passages of the list, with the index of that passage
    """

    query: str
    texts: tuple[str, ...]
    relevant: tuple[int, ...]
    quote: str
    more: tuple[tuple[str, int], ...] = ()


class ListSource:
    """Makes lists of several corpora, and keeps the held-out questions apart."""

    def __init__(self, corpora: Sequence[Corpus]) -> None:
        self.corpora = [corpus for corpus in corpora if len(corpus.passages) > 1]
        self.near = [Neighbours([each.shown for each in corpus.passages]) for corpus in self.corpora]
        self._weights = [SHARES.get(corpus.name, 0.1) for corpus in self.corpora]
        self._asked = [_split(corpus.questions)[1] for corpus in self.corpora]

    def dev(self) -> list[tuple[int, Question]]:
        """The held-out questions with the index of their corpus."""
        return [(at, question) for at, corpus in enumerate(self.corpora) for question in _split(corpus.questions)[0]]

    def questions(self, at: int) -> Sequence[Question]:
        """The real questions of corpus ``at`` that are trained on."""
        return self._asked[at]

    def draw(self, random: Random, count: int, tokens: int, easy: float = RANDOM_NEGATIVES) -> PassageList:
        """A list of ``count`` passages that have about ``tokens`` tokens each; a share ``easy`` is any passage."""
        while True:
            (at,) = random.choices(range(len(self.corpora)), self._weights)
            questions = self._asked[at]
            made = (
                self._real(at, random.choice(questions), random, count, tokens, easy)
                if questions and random.random() < REAL_SHARE / self._share(at)
                else self._made(at, random, count, tokens, easy)
            )
            if made is not None:
                return made

    def plain(self, random: Random) -> str:
        """A passage to be read as plain text."""
        (at,) = random.choices(range(len(self.corpora)), self._weights)
        return random.choice(self.corpora[at].passages).shown

    def negatives(
        self, at: int, query: str, relevant: Sequence[int], random: Random, count: int, easy: float = RANDOM_NEGATIVES
    ) -> list[int]:
        """Passages like the query, better ones more often, and a share of any kind; none that is relevant."""
        excluded = set(relevant)
        near = [found for found, _ in self.near[at].best(query, DEPTH + len(excluded)) if found not in excluded]
        chosen: list[int] = []
        while len(chosen) < count and len(excluded) < self.near[at].size:
            if near and random.random() >= easy:
                found = near.pop(int(len(near) * random.random() ** 2))
            else:
                found = random.randrange(self.near[at].size)
            if found not in excluded:
                excluded.add(found)
                chosen.append(found)
        return chosen

    def _share(self, at: int) -> float:
        return self._weights[at] / sum(self._weights)

    def _made(self, at: int, random: Random, count: int, tokens: int, easy: float) -> PassageList | None:
        index = random.randrange(len(self.corpora[at].passages))
        source = self.corpora[at].passages[index]
        if not source.sentences:
            return None
        from_start = random.random() < 0.5
        last = min(len(source.sentences), 3) if from_start else len(source.sentences)
        asked = ask(source, self.near[at], random, random.randrange(last))
        if asked is None:
            return None
        titled = bool(asked.source.title) or not source.title
        negatives = self.negatives(at, asked.query, [index], random, count - 1, easy)
        return self._list(at, asked, [index, *negatives], random, tokens, from_start=from_start, titled=titled)

    def _real(
        self, at: int, question: Question, random: Random, count: int, tokens: int, easy: float
    ) -> PassageList | None:
        passages = self.corpora[at].passages
        known = [index for index in question.relevant if passages[index].sentences]
        if not known:
            return None
        place = random.choice(known)
        source = passages[place]
        from_start = random.random() < 0.6
        asked = Asked(
            dropped(question.text, random) if random.random() < 0.6 else question.text,
            source,
            0 if from_start else _closest(question.text, source),
        )
        shown = [place, *self.negatives(at, asked.query, question.relevant, random, count - 1, easy)]
        titled = random.random() < 0.85
        return self._list(at, asked, shown, random, tokens, from_start=from_start, titled=titled)

    def _list(
        self,
        at: int,
        asked: Asked,
        places: Sequence[int],
        random: Random,
        tokens: int,
        *,
        from_start: bool,
        titled: bool,
    ) -> PassageList:
        """The passages at ``places``, of which the first is relevant, in a random order."""
        passages = self.corpora[at].passages
        budget = int(tokens * WORDS_PER_TOKEN)
        cut = [_cut(asked.source, 0 if from_start else asked.anchor, budget, titled=titled, random=random)]
        for index in places[1:]:
            other = passages[index]
            start = 0
            if not from_start and other.sentences:
                near = random.random() < 0.5
                start = _closest(asked.query, other) if near else random.randrange(len(other.sentences))
            cut.append(_cut(other, start, budget, titled=titled, random=random))
        order = list(range(len(cut)))
        random.shuffle(order)
        quote = asked.source.sentences[asked.anchor] if random.random() < 0.5 else cut[0].replace("\n", " ")
        more = self._more(at, [places[i] for i in order], order.index(0), random)
        return PassageList(
            asked.query,
            tuple(cut[i] for i in order),
            (order.index(0),),
            " ".join(quote.split()[:8]),
            more,
        )

    def _more(self, at: int, places: Sequence[int], asked: int, random: Random) -> tuple[tuple[str, int], ...]:
        """Queries for a share MORE of the passages, beside that at index ``asked``, from any part of them."""
        found: list[tuple[str, int]] = []
        others = [index for index in range(len(places)) if index != asked]
        for index in random.sample(others, min(round(MORE * len(places)), len(others))):
            source = self.corpora[at].passages[places[index]]
            if source.sentences:
                made = ask(source, self.near[at], random, random.randrange(len(source.sentences)))
                found += [(made.query, index)] if made is not None else []
        return tuple(found)


def _split(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Held out and trained on; the order is that of a fixed seed."""
    order = sorted(questions, key=lambda question: question.id)
    Random(4).shuffle(order)  # noqa: S311
    held = DEV_QUESTIONS if len(order) > 2 * DEV_QUESTIONS else len(order) // 8
    apart = {question.text for question in order[:held]}
    return order[:held], [question for question in order[held:] if question.text not in apart]


def _closest(query: str, source: Passage) -> int:
    """The sentence that shares most of its words with the query, the first of equals."""
    wanted = set(terms(query))
    shared = [len(wanted & set(terms(sentence))) for sentence in source.sentences]
    return shared.index(max(shared))


def _cut(source: Passage, start: int, budget: int, *, titled: bool, random: Random) -> str:
    """The passage from a sentence near before ``start`` on, about ``budget`` words without the title."""
    heading = source.title if titled else ""
    start = max(0, start - random.randrange(2)) if start else 0
    room = max(8, budget - len(heading.split()))
    out: list[str] = []
    for sentence in source.sentences[start:]:
        out += sentence.split()
        if len(out) >= room:
            break
    return shown(heading, " ".join(out[: room + 24]))
