"""What a version says of itself, in one JSON file that is written last."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from indexes.durable import write_atomic
from indexes.errors import CollectionDamaged, FormatNotSupported

FORMAT = 1
"""Raised with every change that older code could not read."""

NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Counts and times are those of the build; documents added later are counted in SQLite.

    encoder    fingerprint of the text encoder;  dimension  of its vectors
    vectors    exact, hnsw or ivfpq;  ann_checksum  of the approximate index, "" where there is none
    chunking   kind, limit and overlap;  seconds  build time by step
    fingerprint  of the source when it was read, "" in a version made before this was recorded
    """

    name: str
    source: str
    created: str
    kvasir: str
    documents: int
    chunks: int
    skipped: int
    encoder: str
    dimension: int
    vectors: str
    chunking: dict[str, str | int]
    analyzer: str = "anserini-english"
    dtype: str = "float32"
    fingerprint: str = ""
    ann_checksum: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, directory: Path) -> None:
        write_atomic(directory / NAME, json.dumps(asdict(self), indent=1, ensure_ascii=False).encode())


def read_manifest(directory: Path) -> Manifest:
    """Raises CollectionDamaged where it is missing or torn, FormatNotSupported where the format is another."""
    path = directory / NAME
    try:
        raw: Any = json.loads(path.read_bytes())
        found = raw["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CollectionDamaged(f"{path} is missing or cannot be read; build or import the collection again") from error
    if found != FORMAT:
        raise FormatNotSupported(
            f"{directory} has format {found}, this Kvasir reads format {FORMAT}; "
            "use the version that wrote it, or build the collection again"
        )
    try:
        return Manifest(**raw)
    except TypeError as error:
        raise CollectionDamaged(f"{path} does not have the fields of format {FORMAT} ({error})") from error
