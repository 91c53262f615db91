"""Which installed distributions may give text to weights that are shipped: permissive licences only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path

_PERMISSIVE = re.compile(
    r"(?:(?:new|modified|simplified|revised)\s+)?"
    r"(?:MIT(?:-0)?|BSD(?:[- ][023][- ]clause)?|0BSD|Apache(?:[- ]2(?:\.0)?)?|ISC|PSF(?:-2\.0)?"
    r"|Python Software Foundation|Python-2\.0|CC0-1\.0|Unlicense|HPND|MIT-CMU)"
    r"(?:[- ]?(?:licen[cs]e|software licen[cs]e|version 2\.0|v2|2\.0|licen[cs]e,? version 2\.0))*",
    re.IGNORECASE,
)
_CLASSIFIER = re.compile(r"License :: OSI Approved :: (?P<name>.+?)(?: \(.*\))?$")


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution whose licence is permissive."""

    name: str
    version: str
    licence: str
    files: tuple[Path, ...]


def packages() -> Iterator[Package]:
    """The installed permissively licensed distributions by name, each once, with their Python and text files."""
    seen: set[str] = set()
    for found in sorted(distributions(), key=lambda each: (each.name or "").lower()):
        name = (found.name or "").lower()
        licence = permissive(found.metadata)  # type: ignore[arg-type]
        if name in seen or not licence:
            continue
        seen.add(name)
        yield Package(found.name, found.version, licence, tuple(sorted(_files(found))))


def permissive(metadata: Message) -> str:
    """The licence a distribution's metadata states, "" unless every part of it is permissive (PEP 639, PEP 314).

    An expression counts before classifiers, and those before the free text.
    """
    stated = [metadata.get("License-Expression") or ""]
    if not stated[0]:
        matches = (_CLASSIFIER.match(line) for line in metadata.get_all("Classifier") or [])
        stated = [match["name"] for match in matches if match] or [_first_line(metadata.get("License") or "")]
    parts = [part.strip(" ()") for text in stated for part in re.split(r"\s+(?:AND|OR|and|or)\s+", text)]
    return " AND ".join(stated) if parts and all(_PERMISSIVE.fullmatch(part) for part in parts) else ""


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _files(found: Distribution) -> Iterator[Path]:
    for file in found.files or ():
        told = file.suffix in (".md", ".rst") and any(part.endswith(".dist-info") for part in file.parts)
        if (file.suffix == ".py" and not _tests(file.parts)) or told:
            path = Path(str(file.locate()))
            if path.is_file():
                yield path


def _tests(parts: tuple[str, ...]) -> bool:
    return any(re.fullmatch(r"tests?|testing|_?vendor(ed)?|extern(al)?|third_party|conftest\.py", p) for p in parts)
