"""A home directory of which only some collections are seen."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from indexes.errors import CollectionNotFound
from indexes.home import Home, Place, check_name


class NarrowHome(Home):
    """The home directory as one sees it who may use some collections only.

    What is not allowed is not there: it is in no list and no message, and asking for it fails as for any name that
    nobody took. Who may use an alias may use what it points at.
    """

    def __init__(self, root: Path, allowed: Collection[str]) -> None:
        super().__init__(root)
        self.allowed = frozenset(allowed)

    def sees(self, reference: str) -> bool:
        """True for a name, alias or name@version that may be used."""
        target = super().aliases().get(reference, reference)
        return reference in self.allowed or target.partition("@")[0] in self.allowed

    def shown(self, name: str) -> str:
        """What a collection is called here: its name, the first alias of those that may be used, "" for neither."""
        if name in self.allowed:
            return name
        aliases = super().aliases().items()
        return min((a for a, target in aliases if a in self.allowed and target.partition("@")[0] == name), default="")

    def directory(self, name: str) -> Path:
        if check_name(name) not in self.allowed:
            raise self.hidden(name)
        return super().directory(name)

    def names(self) -> list[str]:
        return [name for name in super().names() if name in self.allowed]

    def aliases(self) -> dict[str, str]:
        return {
            alias: target
            for alias, target in super().aliases().items()
            if alias in self.allowed or target.partition("@")[0] in self.allowed
        }

    def resolve(self, reference: str) -> Place:
        if not self.sees(reference):
            raise self.hidden(reference)
        if reference in self.allowed and reference in super().aliases():
            return Home(self.root).resolve(reference)
        return super().resolve(reference)

    def hidden(self, reference: str) -> CollectionNotFound:
        there = ", ".join(self.names()[:10]) or "none yet"
        return CollectionNotFound(f"no collection {reference[:80]!r} among those this key may use (there: {there})")
