"""What every reader of documents offers, and what it reports about the things it had to skip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from indexes.corpus import Document


@dataclass(frozen=True, slots=True)
class Skipped:
    """One thing that could not be read. ``where`` names file and line, ``why`` says what was wrong."""

    where: str
    why: str


Report = Callable[[Skipped], None]


@runtime_checkable
class Source(Protocol):
    """Documents in a fixed order: the same source read twice gives the same documents in the same order."""

    @property
    def name(self) -> str:
        """What the manifest records: the kind and the place."""

    def fingerprint(self) -> str:
        """Changes when the documents may have changed; cheap (names, sizes, times), never the content."""

    def count(self) -> int | None:
        """How many documents will come, for the progress bar; None where only reading would tell."""

    def documents(self, skipped: Report) -> Iterator[Document]:
        """Every readable document; whatever cannot be read is reported once and passed over."""
