"""The values that training text is made of: passages in sentences, and corpora of them with their licence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from indexes.chunking import sentences


@dataclass(frozen=True, slots=True)
class Passage:
    """A text as sentences without white space around them; the title may be empty."""

    title: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    @property
    def shown(self) -> str:
        """As rerankers show it: title, line break, text."""
        return shown(self.title, self.text)


@dataclass(frozen=True, slots=True)
class Question:
    """A question that somebody asked of a corpus; ``relevant`` are indices of its passages."""

    id: str
    text: str
    relevant: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages among which those like a query are looked for. ``licences`` names each source's for the model card."""

    name: str
    passages: Sequence[Passage]
    licences: Sequence[str] = ()
    questions: Sequence[Question] = field(default=())


def passage(title: str, text: str) -> Passage:
    """The text cut into sentences; runs of white space become one blank."""
    found = (" ".join(text[start:end].split()) for start, end in sentences(text))
    return Passage(" ".join(title.split()), tuple(sentence for sentence in found if sentence))


def shown(title: str, text: str) -> str:
    return f"{title}\n{text}".strip() if title else text.strip()
