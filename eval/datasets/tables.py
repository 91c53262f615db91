"""Rows of published tables: parquet files, JSON Lines, or a JSON list."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rag.errors import InvalidInput, SourceError


def rows(files: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its place for messages, ``FILE, line N`` or ``FILE, row N``.

    Raises InvalidInput for a row that is no object, SourceError for a file that cannot be read.
    """
    for file in files:
        if file.suffix == ".parquet":
            yield from _parquet(file)
        else:
            yield from _json(file)


def _parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        batches = pq.ParquetFile(file).iter_batches(batch_size=256)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield f"{file}, row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot read {str(file)!r} as parquet: {error}") from error


def _json(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read {str(file)!r}: {error}") from error
    if text.lstrip().startswith("["):
        for number, row in enumerate(_parsed(text, str(file)), start=1):
            yield _object(f"{file}, row {number}", row)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{file}, line {number}"
            yield _object(place, _parsed(line, place))


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{place} is no JSON: {error}") from error


def _object(place: str, row: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(row, dict):
        raise InvalidInput(f"{place} is no object of names and values")
    return place, row


def table(folder: Path, name: str) -> list[Path]:
    """Files of a table called ``name``: ``name/*.parquet``, or ``name.parquet``, ``name.jsonl``, ``name.json``.

    Raises SourceError where there is none.
    """
    for pattern in (f"{name}/*.parquet", f"{name}.parquet", f"{name}/*.jsonl", f"{name}.jsonl", f"{name}.json"):
        if found := sorted(folder.glob(pattern)):
            return found
    raise SourceError(f"no table {name!r} in {str(folder)!r}: no {name}/*.parquet, {name}.jsonl or {name}.json")


def field(row: dict[str, Any], name: str, place: str) -> Any:
    """A value that has to be there. Raises InvalidInput."""
    if row.get(name) is None:
        raise InvalidInput(f"{place} has no {name!r}; it has {', '.join(sorted(row)) or 'nothing'}")
    return row[name]
