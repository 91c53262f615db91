"""The two values everything else is made of: documents, and the chunks their text is cut into."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from indexes.errors import InvalidInput

Scalar = str | int | float | bool
Metadata = Mapping[str, Scalar | tuple[Scalar, ...]]

MAX_ID_BYTES = 512
"""Longest document id in UTF-8 bytes; Lucene's terms end at 32,766 bytes, file systems earlier."""

_UNSAFE_IN_ID = re.compile(r"[\x00-\x1f\x7f]")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """The text without what no store can hold: NUL and lone surrogates become U+FFFD, one for one.

    Offsets into the text stay the same.
    """
    return _LONE_SURROGATE.sub("\ufffd", text.replace("\x00", "\ufffd"))


def _clean_value(value: Scalar | Sequence[Scalar]) -> Scalar | tuple[Scalar, ...]:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Sequence):
        return tuple(clean_text(element) if isinstance(element, str) else element for element in value)
    return value


@dataclass(frozen=True, slots=True)
class Document:
    """One document as its source gives it.

    id        at most 512 bytes of UTF-8, no control characters, unique in a collection
    metadata  names to a string, number, boolean or a tuple of those; filters look here
    Raises InvalidInput where the id is empty, too long or holds control characters.
    """

    id: str
    title: str
    text: str
    metadata: Metadata = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id or len(self.id.encode("utf-8", "replace")) > MAX_ID_BYTES or _UNSAFE_IN_ID.search(self.id):
            raise InvalidInput(
                f"document id {self.id[:80]!r} cannot be stored: an id has 1 to {MAX_ID_BYTES} bytes and no "
                "control characters; give the document another id"
            )
        object.__setattr__(self, "id", clean_text(self.id))
        object.__setattr__(self, "title", clean_text(self.title))
        object.__setattr__(self, "text", clean_text(self.text))
        object.__setattr__(self, "metadata", {clean_text(k): _clean_value(v) for k, v in self.metadata.items()})

    @property
    def is_empty(self) -> bool:
        """True where neither title nor text holds a visible character."""
        return not self.title.strip() and not self.text.strip()


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage of a document.

    id          ``<doc_id>#<ordinal>``, ordinals from 0; unique because the last ``#`` ends the document's id
    text        ``document.text[start:end]`` exactly
    start, end  code point offsets into the document's text, half open
    title       the document's title, which retrievers and prompts read with the text
    """

    id: str
    doc_id: str
    text: str
    start: int
    end: int
    title: str = ""

    @property
    def content(self) -> str:
        """Title and text as one string: what the encoders and rerankers read."""
        return f"{self.title} {self.text}".strip() if self.title else self.text

    @property
    def titled(self) -> str:
        """Title, line break, text: what a language model reads, and under whose tokens its states are kept."""
        return f"{self.title}\n{self.text}".strip() if self.title else self.text.strip()
