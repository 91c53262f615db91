"""Writes that a crash cannot tear: everything is on the disk before a name points to it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexes.errors import StorageFull


def write_atomic(path: Path, content: bytes, *, private: bool = False) -> None:
    """Readers see the old content or the new, never a part; a ``private`` file is readable by its owner only."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with space_needed(path.parent):
        try:
            if private:
                beside.unlink(missing_ok=True)
            with open(beside, "wb", opener=_private if private else None) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Every file and directory below ``root`` is on the disk when this returns."""
    for directory, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(directory))


@contextmanager
def space_needed(place: Path) -> Iterator[None]:
    """A full disk or an exhausted quota as StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no room left on the disk of {place}; free some and try again") from error
        raise
