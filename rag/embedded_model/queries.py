"""Queries made from passages: what somebody who looks for the passage might ask. Pure functions of a random source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from rag.embedded_model.neighbours import Neighbours
from rag.embedded_model.passages import Passage

SPAN = (6, 20)
"""Words of a span."""
KEYWORDS = (3, 8)
MAX_SENTENCE = 40
"""Words of a sentence that is a query."""
MAX_DROPOUT = 0.4
TITLE_KEPT = 0.35
"""How often a title that is the query stays on the passage."""
TEMPLATES = (
    "What is {0}?",
    "What does {0} do?",
    "How does {0} affect {1}?",
    "Which {0} is related to {1}?",
    "Is {0} associated with {1}?",
    "What is known about {0} and {1}?",
    "Does {0} change {1}?",
    "How are {0} and {1} used?",
    "Tell me about {0}",
    "{0} and {1} {2}",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, what is left of the passage it came from, and the first sentence in it that has to be shown."""

    query: str
    source: Passage
    anchor: int


Maker = Callable[[Passage, Neighbours, Random, int], Asked | None]


def title(source: Passage, among: Neighbours, random: Random, anchor: int) -> Asked | None:
    """The title, most times taken from the passage; None where it has none of three words."""
    if len(source.title.split()) < 3:
        return None
    kept = source.title if random.random() < TITLE_KEPT else ""
    return Asked(dropped(source.title, random, 0.2), Passage(kept, source.sentences), anchor)


def keywords(source: Passage, among: Neighbours, random: Random, anchor: int) -> Asked | None:
    """Rare words that other passages have too, in any order, from up to three sentences."""
    rare = among.rare(_near(source, anchor))[:12]
    if len(rare) < KEYWORDS[0]:
        return None
    chosen = random.sample(rare, min(len(rare), random.randint(*KEYWORDS)))
    return Asked(" ".join(chosen), source, anchor)


def span(source: Passage, among: Neighbours, random: Random, anchor: int) -> Asked | None:
    """Words that follow each other, some of them missing."""
    found = source.sentences[anchor].split()
    if len(found) < SPAN[0]:
        return None
    length = min(len(found), random.randint(*SPAN))
    start = random.randint(0, len(found) - length)
    return Asked(dropped(" ".join(found[start : start + length]), random), source, anchor)


def removed_sentence(source: Passage, among: Neighbours, random: Random, anchor: int) -> Asked | None:
    """A sentence that is taken out of the passage: the inverse cloze task (Lee et al., ACL 2019)."""
    sentence = source.sentences[anchor]
    if len(source.sentences) < 3 or len(sentence.split()) < SPAN[0]:
        return None
    left = tuple(each for at, each in enumerate(source.sentences) if at != anchor and each != sentence)
    if not left:
        return None
    query = " ".join(sentence.split()[:MAX_SENTENCE])
    return Asked(dropped(query, random), Passage(source.title, left), min(max(0, anchor - 1), len(left) - 1))


def template(source: Passage, among: Neighbours, random: Random, anchor: int) -> Asked | None:
    """A question around rare words, neighbours in the text where they are."""
    found = source.sentences[anchor].split()
    rare = set(among.rare(source.sentences[anchor])[:8])
    phrases = []
    for at, word in enumerate(found):
        bare = word.strip(".,;:()[]\"'")
        if bare and any(term in rare for term in (bare.lower(), bare.lower().rstrip("s"))):
            before = (
                found[at - 1].strip("()\"'") + " " if at and random.random() < 0.4 and found[at - 1].isalpha() else ""
            )
            phrases.append(before + bare)
    if len(phrases) < 3:
        return None
    chosen = random.sample(phrases, 3)
    return Asked(random.choice(TEMPLATES).format(*chosen), source, anchor)


MAKERS: tuple[tuple[Maker, float], ...] = (
    (title, 0.22),
    (keywords, 0.2),
    (span, 0.18),
    (removed_sentence, 0.25),
    (template, 0.15),
)
"""With how often each is tried."""


def ask(source: Passage, among: Neighbours, random: Random, anchor: int) -> Asked | None:
    """A query by one of MAKERS; another is tried where the passage does not suit it. None where none does."""
    for maker, _ in random.choices(MAKERS, [weight for _, weight in MAKERS], k=3):
        asked = maker(source, among, random, anchor)
        if asked is not None and asked.query.strip():
            return asked
    return None


def dropped(text: str, random: Random, most: float = MAX_DROPOUT) -> str:
    """The text without a random share of its words; two are always left."""
    share = random.random() * most
    found = text.split()
    kept = [word for word in found if random.random() >= share]
    return " ".join(kept if len(kept) >= 2 else found)


def _near(source: Passage, anchor: int) -> str:
    return " ".join(source.sentences[anchor : anchor + 3])
