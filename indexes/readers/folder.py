"""A folder of files: text, Markdown, HTML, PDF and Word."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from indexes.corpus import Document, clean_text
from indexes.errors import SourceError
from indexes.readers.formats import FORMATS, format_of
from indexes.readers.source import Report, Skipped

MAX_BYTES = 256 * 2**20
"""Largest file read, in bytes: a file is read into memory as a whole."""


@dataclass(frozen=True, slots=True)
class _File:
    """One file under the root. ``id`` is its path below the root with ``/`` between the parts."""

    id: str
    path: Path
    format: str
    size: int
    modified_ns: int


class Folder:
    """The files of a folder and its subfolders, ordered by path; or one file alone.

    id        the path below the folder, parts joined by ``/``
    title     what the format names as title, else the file's name without its extension
    metadata  ``path`` (the id), ``format``, ``bytes`` and ``modified`` (ISO 8601, UTC)
    Hidden files and folders are passed over. Links to files are followed while they stay in the folder; links
    to folders are not, so that no folder is read twice or for ever. Files over ``max_bytes`` are skipped.
    Raises SourceError where there is nothing at ``root``.
    """

    def __init__(self, root: str | Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.root = Path(root)
        self.max_bytes = max_bytes
        if not self.root.exists():
            raise SourceError(f"nothing at {str(self.root)!r}; name a folder or a file that exists")

    @property
    def name(self) -> str:
        return f"folder:{self.root}"

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"folder {self.max_bytes}\n".encode())
        for file in self._files(_ignore):
            digest.update(f"{file.id!r} {file.size} {file.modified_ns}\n".encode())
        return digest.hexdigest()

    def count(self) -> int | None:
        """The files a format reads, those that will prove unreadable too."""
        return len(self._files(_ignore))

    def documents(self, skipped: Report) -> Iterator[Document]:
        for file in self._files(skipped):
            try:
                yield _document(file)
            except OSError as error:
                skipped(Skipped(str(file.path), _unreadable(error)))
            except (ValueError, OverflowError) as error:  # InvalidInput, or a date no calendar holds
                skipped(Skipped(str(file.path), str(error)))

    def _files(self, skipped: Report) -> list[_File]:
        """Every file a format reads, ordered by path; reports the rest, an unknown extension once."""
        found: list[_File] = []
        unread: Counter[str] = Counter()
        for path in self._paths(skipped):
            format_name = format_of(path.name)
            if format_name is None:
                unread[path.suffix.lower() or "files without an extension"] += 1
                continue
            try:
                found.append(self._file(path, format_name))
            except OSError as error:
                skipped(Skipped(str(path), _unreadable(error)))
            except SourceError as error:
                skipped(Skipped(str(path), str(error)))
        for kind, count in sorted(unread.items()):
            why = f"no reader for {kind}; there are readers for {', '.join(FORMATS)}"
            skipped(Skipped(f"{self.root} ({count} file{'s' if count > 1 else ''})", why))
        return found

    def _paths(self, skipped: Report) -> Iterator[Path]:
        """What lies below the root, folders left out, ordered by the parts of the path."""
        todo = [self.root]
        while todo:
            path = todo.pop()
            if not os.path.isdir(path):  # False, not an error, where it may not be looked at
                yield path
            elif path.is_symlink() and path != self.root:
                skipped(Skipped(str(path), "a link to a folder; name its target as a source of its own"))
            else:
                try:
                    inside = sorted(path.iterdir(), reverse=True)
                except OSError as error:
                    skipped(Skipped(str(path), _unreadable(error)))
                else:
                    todo += [below for below in inside if not below.name.startswith(".")]

    def _file(self, path: Path, format_name: str) -> _File:
        """The file as it lies there. Raises SourceError where it must not be read, OSError if it cannot."""
        base = self.root.parent if path == self.root else self.root
        if path != self.root and not path.resolve().is_relative_to(self.root.resolve()):
            raise SourceError("a link that leaves the folder; copy the file into it")
        at = path.stat()
        if not stat.S_ISREG(at.st_mode):
            raise SourceError("not a regular file; copy its content into one")
        if at.st_size > self.max_bytes:
            raise SourceError(f"{at.st_size} bytes, over the {self.max_bytes} read at most; split the file")
        return _File(path.relative_to(base).as_posix(), path, format_name, at.st_size, at.st_mtime_ns)


def _document(file: _File) -> Document:
    extracted = FORMATS[file.format](file.path.read_bytes())
    modified = datetime.fromtimestamp(file.modified_ns / 1e9, UTC)
    return Document(
        id=file.id,
        title=extracted.title or file.path.stem,
        text=extracted.text,
        metadata={
            "path": clean_text(file.id),
            "format": file.format,
            "bytes": file.size,
            "modified": modified.isoformat(timespec="seconds"),
        },
    )


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error}); check that it exists and may be read"


def _ignore(skipped: Skipped) -> None:
    """Counting and fingerprints report nothing; reading does."""
