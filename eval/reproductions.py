"""The published figures of reproductions.yaml: what was published, and what gives it here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rag.errors import InvalidInput

FILE = Path(__file__).with_name("reproductions.yaml")
OFFLINE = "offline"
KEYS = {"name", "source", "commands", "model", "settings", "cannot", "offline", "tolerance", "note", "figures"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """The published figures of one condition on one set.

    data       the set's folder's name;  model  hub name, "" where none is needed
    commands   with placeholders, empty where ``cannot`` says why there are none;  settings  TOML with placeholders
    expected   measure to the published value, a fraction of 1;  tolerance  how far a value may lie from it
    offline    True where it takes a few minutes at most with nothing but the data
    """

    condition: str
    data: str
    source: str
    commands: Sequence[str]
    model: str
    settings: str
    cannot: str
    offline: bool
    tolerance: float
    note: str
    expected: Mapping[str, float]

    @property
    def name(self) -> str:
        return f"{self.condition}/{self.data}"

    def called(self, name: str) -> bool:
        """True for its own name, its condition's, its set's, and for ``offline`` where it is."""
        return name in (self.name, self.condition, self.data) or (name == OFFLINE and self.offline)


@cache
def published() -> tuple[Reproduction, ...]:
    """All of them, in the file's order."""
    return read(FILE.read_text(encoding="utf-8"), FILE.name)


def read(text: str, where: str) -> tuple[Reproduction, ...]:
    """The reproductions of a YAML text. Raises InvalidInput that names the entry for whatever breaks the form."""
    import yaml

    try:
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{where} is no YAML: {error}") from error
    if not isinstance(entries, list):
        raise InvalidInput(f"{where} is no list of conditions")
    found = [one for entry in entries for one in _conditions(entry, where)]
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"{where}: {twice[0]!r} comes twice")
    return tuple(found)


def _conditions(entry: Any, where: str) -> list[Reproduction]:
    place = f"{where}, {entry.get('name', 'an entry without name') if isinstance(entry, dict) else entry!r}"
    try:
        if unknown := sorted(entry.keys() - KEYS):
            raise ValueError(f"unknown key {unknown[0]!r}")
        commands, cannot = list(entry.get("commands", ())), str(entry.get("cannot", ""))
        if bool(commands) == bool(cannot):
            raise ValueError("write either commands or cannot")
        if wrong := [command for command in commands if not command.startswith("kvasir-eval ")]:
            raise ValueError(f"{wrong[0]!r} is no command of kvasir-eval")
        tolerance = float(entry["tolerance"])
        if not 0 <= tolerance <= 0.1:
            raise ValueError(f"tolerance {tolerance}; it lies between 0 and 0.1")
        return [
            Reproduction(
                condition=str(entry["name"]),
                data=str(data),
                source=str(entry["source"]),
                commands=commands,
                model=str(entry.get("model", "")),
                settings=str(entry.get("settings", "")),
                cannot=cannot,
                offline=data in entry.get("offline", ()),
                tolerance=tolerance,
                note=str(entry.get("note", "")),
                expected={str(measure): _fraction(value) for measure, value in figures.items()},
            )
            for data, figures in entry["figures"].items()
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{place}: {error}") from error


def _fraction(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise ValueError(f"{value!r} is no fraction of 1")
    return number


def chosen(names: Sequence[str]) -> list[Reproduction]:
    """Those that one of the names means, all without names. Raises InvalidInput for a name that means none."""
    for name in names:
        if not any(one.called(name) for one in published()):
            known = ", ".join(sorted({one.condition for one in published()}))
            raise InvalidInput(f"no published figure is called {name!r}; there is: {OFFLINE}, {known}, and their sets")
    return [one for one in published() if not names or any(one.called(name) for name in names)]
