"""A job's documents as a Source: what was sent or the folder that was named, with the brake at every document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from indexes.corpus import Document
from indexes.errors import SourceError
from indexes.readers.folder import Folder
from indexes.readers.jsonl import EXTENSIONS, Jsonl
from indexes.readers.open_source import Chained
from indexes.readers.source import Report, Skipped, Source
from rag.errors import InvalidInput
from rag.jobs.control import Control
from rag.jobs.record import Job
from rag.jobs.spool import FILES, ROWS
from rag.jobs_table import JobsConfig


class JobSource:
    """The documents of a job. Places in its log are relative, so they tell nothing of the server's disk."""

    def __init__(self, job: Job, inner: Source, root: Path, control: Control, most: int) -> None:
        self._job, self._inner, self._root, self._control, self._most = job, inner, root, control, most
        self.reported: set[Skipped] = set()

    @property
    def name(self) -> str:
        return self._job.source

    def fingerprint(self) -> str:
        """A folder may change between two runs; what was sent does not."""
        return self._inner.fingerprint() if self._job.kind == "folder" else self._job.source

    def count(self) -> int | None:
        return self._inner.count()

    def documents(self, skipped: Report) -> Iterator[Document]:
        def report(one: Skipped) -> None:
            told = replace(one, where=self._told(one.where), why=self._told(one.why))
            self._control.skip(told)
            self.reported.add(told)
            skipped(told)

        for number, document in enumerate(self._inner.documents(report)):
            if number >= self._most:
                raise InvalidInput(f"more than {self._most} documents (jobs.max_documents); send several jobs")
            self._control.check()
            yield document

    def _told(self, text: str) -> str:
        for place in (self._root / FILES, self._root / ROWS, self._root):
            text = text.replace(f"{place}/", "").replace(str(place), ".")
        return text


def open_job(job: Job, spool: Path, control: Control, bounds: JobsConfig) -> JobSource:
    """What the job was sent, rows before files, or its folder. Raises SourceError where nothing is there."""
    if job.kind == "folder":
        root = checked_folder(job.folder, bounds)
        parts = _of_folder(root)
    else:
        root = spool
        parts = [Jsonl(path) for path in _rows(spool / ROWS)]
        if any((spool / FILES).iterdir()):
            parts.append(Folder(spool / FILES))
    if not parts:
        raise SourceError("the job brought no file; send some")
    return JobSource(job, parts[0] if len(parts) == 1 else Chained(parts), root, control, bounds.max_documents)


def checked_folder(folder: str, bounds: JobsConfig) -> Path:
    """The real place of a folder that jobs may read. Raises InvalidInput for any other, whether it is there or not."""
    asked = Path(folder)
    with suppress(OSError, ValueError, RuntimeError):  # too long, with a NUL, not in UTF-8; links in a circle
        for allowed in bounds.folders:
            root = Path(allowed).resolve()
            real = (asked if asked.is_absolute() else root / asked).resolve()
            if real.is_relative_to(root) and real.is_dir():
                return real
    raise InvalidInput(
        f"folder {folder[:200]!r} is none that jobs may read; whoever runs the server names them in [jobs] folders"
    )


def _of_folder(root: Path) -> list[Source]:
    """Its JSONL files, then all others."""
    found: list[Source] = [
        Jsonl(path) for path in _rows(root) if path.resolve().is_relative_to(root) and path.is_file()
    ]
    return [*found, _Others(root)] if found else [Folder(root)]


class _Others(Folder):
    """A folder without its JSONL files, which are read as rows."""

    def _paths(self, skipped: Report) -> Iterator[Path]:
        return (path for path in super()._paths(skipped) if not path.name.lower().endswith(EXTENSIONS))


def _rows(root: Path) -> Sequence[Path]:
    """JSONL files below a folder by their paths, hidden ones left out."""
    found = (path for path in root.rglob("*") if path.name.lower().endswith(EXTENSIONS))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))
