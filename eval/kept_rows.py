"""Rows of a long run kept in a file as they come, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from indexes.durable import space_needed
from rag.errors import InvalidInput, SourceError

MARK = "kvasir_rows"
ASKED = "asked"
"""Of a query's row: the digest of its text."""


def digest(text: str) -> str:
    """The same for the same text, lone surrogates included."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def fingerprint(parts: Mapping[str, Any]) -> str:
    """The same for the same parts in any order; every part is one that changes the rows."""
    return digest(json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str))


class KeptRows:
    """Rows by key, JSON Lines under a first line with the fingerprint of what makes them.

    A last line that was cut off is dropped, and written anew. ``path`` None keeps rows in memory alone; ``fresh``
    begins anew over rows of any fingerprint, and leaves every other file as it is.
    Raises InvalidInput where the file holds rows of another fingerprint or is none of these files.
    """

    def __init__(self, path: Path | None, made_by: str, *, fresh: bool = False) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        if path is None:
            return
        if path.exists():
            self._read(path, made_by, fresh=fresh)
        else:
            self._append({MARK: made_by})

    def _read(self, path: Path, made_by: str, *, fresh: bool) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SourceError(f"cannot read {str(path)!r}: {error}") from error
        whole = content[: content.rfind(b"\n") + 1]
        if not whole and not _line({MARK: made_by}).startswith(content):
            raise InvalidInput(f"{path} holds no kept rows; name another file, or delete it")
        lines = whole.decode("utf-8", errors="replace").splitlines()
        try:
            read = [json.loads(line) for line in lines]
            found = read[0][MARK] if read else made_by
            self.rows = {str(row["key"]): row["row"] for row in read[1:]}
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path} holds no kept rows ({error!r}); name another file, or delete it") from error
        if fresh:
            self.rows = {}
            path.unlink()
            self._append({MARK: made_by})
            return
        if found != made_by:
            raise InvalidInput(
                f"{path} holds rows of another pipeline, collection or version ({found}, now {made_by}); "
                "name another file, or begin anew with --fresh"
            )
        with path.open("r+b") as file:
            file.truncate(len(whole))
        if not read:
            self._append({MARK: made_by})

    def waiting(self, queries: Mapping[str, str]) -> list[str]:
        """Ids of the queries that have no row of their text: new ones, and those that read otherwise now."""
        return [key for key, text in queries.items() if self.rows.get(key, {}).get(ASKED) != digest(text)]

    def keep_asked(self, key: str, text: str, row: dict[str, Any]) -> None:
        """Keeps what came of a query of that text."""
        self.keep(key, row | {ASKED: digest(text)})

    def keep(self, key: str, row: dict[str, Any]) -> None:
        """The row is in the file when this returns, and counts in place of an earlier one of its key."""
        self.rows[key] = row
        if self.path is not None:
            self._append({"key": key, "row": row})

    def _append(self, said: Mapping[str, Any]) -> None:
        assert self.path is not None
        with space_needed(self.path.absolute().parent), self.path.open("ab") as file:
            file.write(_line(said))
            file.flush()


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"
