"""JSON lines: one document an object, one object a line; also the row format of BEIR's corpora."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeGuard, cast

import msgspec

from indexes.corpus import Document, Scalar, clean_text
from indexes.errors import InvalidInput, SourceError
from indexes.readers.source import Report, Skipped

EXTENSIONS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

_IDS = ("_id", "id")
_TEXTS = ("text", "contents", "content", "body")
_BOM = b"\xef\xbb\xbf"
_BLOCK = 2**20

MAX_LINE = 64 * 2**20
"""Longest line read, in bytes: a line is in memory as a whole, and longer ones are skipped."""

MAX_RATIO = 100
"""Most bytes one packed byte may unpack to, for files over 64 MiB unpacked; text stays below 20."""

MAX_BLANK = 1_000_000
"""Most blank lines of a file: reading them is work that gives no document."""

_SMALL = 64 * 2**20


class Jsonl:
    """The rows of one JSONL file, plain or gzipped, in the order of the file.

    id        ``_id`` or ``id``, a string or a whole number; a row without one is skipped
    text      ``text``, ``contents``, ``content`` or ``body``, the first that is there
    title     ``title``, or ""
    metadata  the mapping ``metadata`` and every other key, as far as they hold strings, finite numbers,
              booleans or lists of those; the mapping wins over a key of the same name
    Raises SourceError where the file is missing or, while reading, where its compression is broken.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise SourceError(f"no file {str(self.path)!r} to read rows from; check the path")

    @property
    def name(self) -> str:
        return f"jsonl:{self.path}"

    def fingerprint(self) -> str:
        found = self.path.stat()
        return hashlib.sha256(f"jsonl {found.st_size} {found.st_mtime_ns}".encode()).hexdigest()

    def count(self) -> int | None:
        """The file's lines, blank ones too; None for a gzipped file."""
        return None if self.path.suffix == ".gz" else _lines(self.path)

    def documents(self, skipped: Report) -> Iterator[Document]:
        blank = 0
        try:
            with _opened(self.path) as file:
                for number, line in enumerate(self._lines(file), 1):
                    if line is None:
                        skipped(Skipped(f"{self.path}:line {number}", f"over the {MAX_LINE} bytes read; split it"))
                        continue
                    row = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
                    blank += not row
                    if blank > MAX_BLANK:
                        raise SourceError(f"{self.path.name!r} has over {MAX_BLANK} blank lines; remove them")
                    if row:
                        try:
                            yield document(row)
                        except InvalidInput as error:
                            skipped(Skipped(f"{self.path}:line {number}", str(error)))
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"cannot read {str(self.path)!r} to its end ({error}); fetch it again") from error

    def _lines(self, file: BinaryIO) -> Iterator[bytes | None]:
        """The lines, None for one that is too long. Raises SourceError where a file unpacks to far more than it is."""
        packed = self.path.stat().st_size if self.path.suffix == ".gz" else 0
        whole, read = True, 0
        while line := file.readline(MAX_LINE):
            read += len(line)
            if packed and read > _SMALL and read > MAX_RATIO * packed:
                raise SourceError(
                    f"{self.path.name!r} of {packed} bytes unpacks to over {MAX_RATIO} times that; unpack it yourself"
                )
            begins, whole = whole, line.endswith(b"\n") or len(line) < MAX_LINE
            if begins:
                yield line if whole else None


def document(row: bytes) -> Document:
    """The document one JSON row describes. Raises InvalidInput with the reason where it describes none."""
    fields = _fields(row)
    taken = {"title", *(key for keys in (_IDS, _TEXTS) if (key := _first(fields, keys)))}
    nested = fields.get("metadata")
    if isinstance(nested, dict):
        taken.add("metadata")
    return Document(
        id=_id(fields),
        title=_string(fields, "title"),
        text=_text(fields),
        metadata=_metadata({key: value for key, value in fields.items() if key not in taken})
        | _metadata(nested if isinstance(nested, dict) else {}),
    )


def _fields(row: bytes) -> Mapping[str, object]:
    try:
        fields = msgspec.json.decode(row.decode("utf-8").encode())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not UTF-8 at byte {error.start} of the line; convert the file to UTF-8") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"not valid JSON ({error}); write one JSON object a line") from error
    if not isinstance(fields, dict):
        raise InvalidInput(f"a JSON {_kind(fields)}, not an object; write one JSON object a line")
    return fields


def _first(fields: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    """The first of the keys that holds a value."""
    return next((key for key in keys if fields.get(key) is not None), None)


def _id(fields: Mapping[str, object]) -> str:
    found = fields[key] if (key := _first(fields, _IDS)) else None
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str):
        raise InvalidInput(f"no id: it stands under {' or '.join(_IDS)} as a string or a whole number")
    return found


def _text(fields: Mapping[str, object]) -> str:
    key = _first(fields, _TEXTS)
    if key is None:
        raise InvalidInput(f"no text: it stands under {', '.join(_TEXTS[:-1])} or {_TEXTS[-1]} as a string")
    return _string(fields, key)


def _string(fields: Mapping[str, object], key: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput(f"{key} is a JSON {_kind(value)}, not a string; write it in quotes")
    return value


def _metadata(values: Mapping[str, object]) -> dict[str, Scalar | tuple[Scalar, ...]]:
    """The values a filter can use; null, nested objects and mixed lists are left out."""
    kept: dict[str, Scalar | tuple[Scalar, ...]] = {}
    for key, value in values.items():
        if isinstance(value, list):
            members = [member for member in value if _is_scalar(member)]
            if len(members) == len(value):
                kept[clean_text(key)] = tuple(map(_clean, members))
        elif _is_scalar(value):
            kept[clean_text(key)] = _clean(value)
    return kept


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _clean(value: Scalar) -> Scalar:
    return clean_text(value) if isinstance(value, str) else value


def _kind(value: object) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _lines(path: Path) -> int:
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")
