"""What a job was sent, on the disk before the job is acknowledged: named safely, bounded, hashed on the way."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from indexes.durable import space_needed, sync_directory, sync_tree
from indexes.readers.jsonl import EXTENSIONS
from rag.errors import InvalidInput, StorageFull
from rag.jobs_table import JobsConfig

FILES, ROWS = "files", "rows"
"""Folders of a spool: files that a folder's reader reads, and JSONL."""
MAX_DEPTH = 16
_INCOMING = ".incoming-"
_ABANDONED_SECONDS = 86_400.0
_MIB = 2**20


class UploadTooLarge(InvalidInput):
    """More bytes, or more files, than one job may bring."""


class Spool:
    """A job's files while they come in. Nothing counts before ``keep``; ``discard`` leaves nothing.

    directory  of all jobs
    """

    def __init__(self, directory: Path, job_id: str, bounds: JobsConfig) -> None:
        self.bounds = bounds
        self.place = directory / job_id
        self._incoming = directory / f"{_INCOMING}{job_id}"
        self._file: BinaryIO | None = None
        self._names: set[str] = set()
        self._part = hashlib.sha256()
        self._whole = hashlib.sha256()
        self._size = self._looked = 0
        with space_needed(directory):
            for folder in (FILES, ROWS):
                (self._incoming / folder).mkdir(parents=True)

    def begin(self, name: str) -> None:
        """The next file. Raises InvalidInput for a name that is none, or that came before."""
        parts = safe_parts(name)
        path = "/".join(parts)
        if path in self._names:
            raise InvalidInput(f"file {path!r} came twice; send each file once, or with its folder in the name")
        if len(self._names) >= self.bounds.max_files:
            raise UploadTooLarge(f"more than {self.bounds.max_files} files (jobs.max_files); send several jobs")
        self._names.add(path)
        folder = ROWS if parts[-1].lower().endswith(EXTENSIONS) else FILES
        target = self._incoming.joinpath(folder, *parts)
        try:
            with space_needed(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                self._file = target.open("xb")
        except (FileExistsError, NotADirectoryError, OSError) as error:
            if isinstance(error, StorageFull):
                raise
            raise InvalidInput(f"file {path!r} cannot stand beside the others ({error.strerror}); rename it") from error
        self._part = hashlib.sha256()
        self._whole.update(f"{len(path.encode())} ".encode() + path.encode())

    def write(self, data: bytes) -> None:
        """More of the file. Raises UploadTooLarge, StorageFull."""
        assert self._file is not None, "a file has begun"
        self._size += len(data)
        if self._size > self.bounds.max_upload_mb * _MIB:
            raise UploadTooLarge(
                f"more than {self.bounds.max_upload_mb} MiB (jobs.max_upload_mb); send several jobs, or name a folder "
                "of the server"
            )
        if self._size - self._looked >= _MIB or not self._looked:
            self._looked = self._size
            check_space(self._incoming, self.bounds)
        with space_needed(self._incoming):
            self._file.write(data)
        self._part.update(data)

    def end(self) -> None:
        """The file is whole."""
        assert self._file is not None, "a file has begun"
        with space_needed(self._incoming):
            self._file.close()
        self._file = None
        self._whole.update(self._part.digest())

    @property
    def count(self) -> int:
        return len(self._names)

    @property
    def digest(self) -> str:
        """Of all names and contents, in the order they came."""
        return self._whole.hexdigest()

    def keep(self) -> None:
        """Everything is on the disk, under the job's id, when this returns."""
        with space_needed(self._incoming):
            sync_tree(self._incoming)
            self._incoming.rename(self.place)
            sync_directory(self.place.parent)

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self._incoming, ignore_errors=True)
        shutil.rmtree(self.place, ignore_errors=True)


def safe_parts(name: str) -> tuple[str, ...]:
    """The parts of a file's path as a client names it. Raises InvalidInput for one that could lead elsewhere."""
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    leads_away = ".." in parts or name.startswith(("/", "\\")) or (parts and parts[0].endswith(":"))
    too_long = len(parts) > MAX_DEPTH or any(len(part.encode("utf-8", "replace")) > 255 for part in parts)
    unsound = any(not part.isprintable() or part.startswith(".") for part in parts)
    if not parts or leads_away or too_long or unsound:
        raise InvalidInput(
            f"{name[:100]!r} is no file name: send a relative path without .., hidden or unprintable parts, "
            f"at most {MAX_DEPTH} deep"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{name[:100]!r} is no file name in UTF-8") from None
    return parts


def check_space(place: Path, bounds: JobsConfig, coming: int = 0) -> None:
    """Raises StorageFull where ``coming`` bytes would leave less than is to stay free."""
    free = shutil.disk_usage(place).free - coming
    if free < bounds.min_free_mb * _MIB:
        raise StorageFull(
            f"{max(0, free) // _MIB} MiB would stay free on the server's disk, less than {bounds.min_free_mb} "
            "(jobs.min_free_mb); free some and try again"
        )


def sweep(directory: Path, living: set[str], over: Callable[[str], bool]) -> None:
    """Remove what jobs that are ``over`` left behind, and uploads of yesterday that never became one of the living."""
    if not directory.is_dir():
        return
    before = time.time() - _ABANDONED_SECONDS
    for path in directory.iterdir():
        if path.is_dir() and path.name not in living and (over(path.name) or path.stat().st_mtime < before):
            shutil.rmtree(path, ignore_errors=True)
