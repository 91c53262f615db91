"""What a client was told about its documents, and what a server may therefore say of them."""

from __future__ import annotations

from dataclasses import dataclass, field

Version = int | None
"""The number of a document's text, None where it is not there."""


@dataclass(slots=True)
class Ledger:
    """The versions each document may have: one after an acknowledgement, more while a change's outcome is unknown."""

    possible: dict[str, set[Version]] = field(default_factory=dict)
    acknowledged: int = 0
    unknown: int = 0

    def begin(self, doc_id: str, version: Version) -> None:
        """A change is sent: from now on it may be done, whatever comes back."""
        self.possible.setdefault(doc_id, {None}).add(version)

    def acknowledge(self, doc_id: str, version: Version) -> None:
        """The server says that it is done."""
        self.possible[doc_id] = {version}
        self.acknowledged += 1

    def lose_sight(self) -> None:
        """No answer came: both versions remain possible."""
        self.unknown += 1

    def judge(self, doc_id: str, found: Version) -> str:
        """What is wrong with a version that was found, "" for nothing; what was found is certain from now on.

        lost      an acknowledged text is not there, or an older one is
        returned  what was deleted is there again
        """
        allowed = self.possible[doc_id]
        self.possible[doc_id] = {found}
        if found in allowed:
            return ""
        return "returned" if allowed == {None} else "lost"
