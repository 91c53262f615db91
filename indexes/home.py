"""The directory all collections live in: names, versions, aliases, the one writer's lock.

::

    $KVASIR_HOME/aliases.json                                {"prod": "scifact@3"}
    $KVASIR_HOME/locks/<name>.lock                           held while a process writes
    $KVASIR_HOME/collections/<name>/current                  the number of the version that serves
    $KVASIR_HOME/collections/<name>/building/                an unfinished build, which the next one resumes
    $KVASIR_HOME/collections/<name>/versions/<n>/            manifest.json documents.sqlite lucene/ vectors/ generation
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from indexes.durable import space_needed, sync_directory, sync_tree, write_atomic
from indexes.errors import (
    CollectionBusy,
    CollectionDamaged,
    CollectionExists,
    CollectionNotFound,
    InvalidInput,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KEEP_VERSIONS = 2

UNFINISHED = "build.json"
"""In a directory that is still being built: what it is built from."""


@dataclass(frozen=True, slots=True)
class Place:
    """One version of a collection on the disk."""

    name: str
    version: int
    path: Path


def check_name(name: str, kind: str = "collection") -> str:
    """The name itself, of a collection or what ``kind`` says.

    Raises InvalidInput for one that could not be a directory everywhere.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise InvalidInput(
            f"{name[:80]!r} is no {kind} name: use 1 to 64 letters, digits, '.', '_', '-', a letter or digit first"
        )
    return name


class Home:
    """Names to places. Reading needs no lock: every change is one rename."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    # --- where things are ---

    def directory(self, name: str) -> Path:
        return self.root / "collections" / check_name(name)

    def building(self, name: str) -> Path:
        return self.directory(name) / "building"

    def names(self) -> list[str]:
        """Published collections, sorted."""
        found = (path.parent.name for path in (self.root / "collections").glob("*/current"))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def versions(self, name: str) -> list[int]:
        found = (self.directory(name) / "versions").glob("*")
        return sorted(int(path.name) for path in found if path.name.isdecimal())

    def current(self, name: str) -> int:
        """The version that serves. Raises CollectionNotFound with what is there."""
        try:
            return int((self.directory(name) / "current").read_text())
        except FileNotFoundError:
            there = ", ".join(self.names()[:10]) or "none yet"
            raise CollectionNotFound(
                f"no collection {name!r} in {self.root} (there: {there}); build it with: kvasir index {name} SOURCE"
            ) from None
        except ValueError as error:
            raise CollectionDamaged(f"{self.directory(name) / 'current'} holds no version number") from error

    def resolve(self, reference: str) -> Place:
        """The version that ``name``, ``name@3`` or an alias means now."""
        target = self.aliases().get(reference, reference)
        name, _, number = target.partition("@")
        if number and not number.isdecimal():
            raise InvalidInput(f"{target!r} names no version; write name@3")
        version = int(number) if number else self.current(name)
        path = self.directory(name) / "versions" / str(version)
        if not path.is_dir():
            there = ", ".join(map(str, self.versions(name))) or "none"
            raise CollectionNotFound(f"no version {version} of collection {name!r} (there: {there})")
        return Place(name, version, path)

    # --- aliases ---

    def aliases(self) -> dict[str, str]:
        try:
            raw = json.loads((self.root / "aliases.json").read_bytes())
            return {str(alias): str(target) for alias, target in raw.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError) as error:
            raise CollectionDamaged(f"{self.root / 'aliases.json'} is no JSON object; mend or remove it") from error

    def set_alias(self, alias: str, target: str | None) -> None:
        """Point ``alias`` at a collection or version; None removes it. Aliases do not chain."""
        check_name(alias)
        with self._aliases_held():
            aliases = self.aliases()
            if target is None:
                if alias not in aliases:
                    raise CollectionNotFound(f"no alias {alias!r} (there: {', '.join(sorted(aliases)) or 'none'})")
                del aliases[alias]
            else:
                if alias in self.names():
                    raise CollectionExists(f"{alias!r} is a collection; choose another alias")
                if target in aliases:
                    raise InvalidInput(f"{target!r} is itself an alias; point at {aliases[target]!r}")
                self.resolve(target)
                aliases[alias] = target
            write_atomic(self.root / "aliases.json", json.dumps(aliases, indent=1, sort_keys=True).encode())

    def refuse_alias(self, name: str) -> None:
        """Raises CollectionExists where an alias has that name: it would hide the collection."""
        if target := self.aliases().get(name):
            raise CollectionExists(f"{name!r} is an alias of {target!r}; remove the alias or choose another name")

    @contextmanager
    def _aliases_held(self) -> Iterator[None]:
        """Nobody sets an alias meanwhile."""
        with self._hold(self.root / "aliases", "the aliases", wait=30):
            yield

    # --- changes ---

    @contextmanager
    def lock(self, name: str, *, wait: float = 0) -> Iterator[None]:
        """Be the one writer of a collection. Raises CollectionBusy with who is, after ``wait`` seconds."""
        with self._hold(self.root / "locks" / check_name(name), f"collection {name!r}", wait=wait):
            yield

    @contextmanager
    def _hold(self, stem: Path, what: str, *, wait: float) -> Iterator[None]:
        with space_needed(self.root):
            stem.parent.mkdir(parents=True, exist_ok=True)
        lock, holder = FileLock(f"{stem}.lock"), Path(f"{stem}.holder")
        try:
            with space_needed(self.root):
                lock.acquire(timeout=wait)
        except Timeout:
            who = _read(holder) or "another process"
            raise CollectionBusy(f"{who} is writing to {what}; wait for it or end it, then try again") from None
        try:
            with space_needed(self.root):
                holder.write_text(f"process {os.getpid()}")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def publish(self, name: str, built: Path) -> Place:
        """Make a finished directory the version that serves, by one rename of the pointer. Needs the lock."""
        directory = self.directory(name)
        with space_needed(directory):
            sync_tree(built)
        with self._aliases_held():
            self.refuse_alias(name)
            version = max([0, *self.versions(name)]) + 1
            path = directory / "versions" / str(version)
            with space_needed(directory):
                path.parent.mkdir(parents=True, exist_ok=True)
                built.rename(path)
            try:
                sync_directory(path.parent)
                write_atomic(directory / "current", f"{version}\n".encode())
            except BaseException:
                if _read(directory / "current").strip() != str(version):
                    path.rename(built)
                raise
            self._prune(name, version)
        return Place(name, version, path)

    def reclaim(self, name: str) -> None:
        """What a killed build had moved among the versions but not pointed to is under construction again.

        Needs the lock.
        """
        if self.building(name).exists():
            return
        pointed = _read(self.directory(name) / "current").strip()
        current = int(pointed) if pointed.isdecimal() else 0
        for version in self.versions(name):
            path = self.directory(name) / "versions" / str(version)
            if version > current and (path / UNFINISHED).is_file():
                path.rename(self.building(name))
                return

    def _prune(self, name: str, current: int) -> None:
        """Remove all but the newest versions, never one that an alias names."""
        kept = {current} | {int(t.split("@")[1]) for t in self.aliases().values() if t.startswith(f"{name}@")}
        for version in self.versions(name)[:-KEEP_VERSIONS]:
            if version not in kept:
                shutil.rmtree(self.directory(name) / "versions" / str(version), ignore_errors=True)

    def drop(self, name: str) -> None:
        """Remove a collection with all its versions. Refused while an alias points at it."""
        with self.lock(name):
            aside = self._put_aside(name)
        for left in {aside, *aside.parent.glob(".dropped-*")}:
            shutil.rmtree(left, ignore_errors=True)

    def _put_aside(self, name: str) -> Path:
        with self._aliases_held():
            pointing = sorted(a for a, target in self.aliases().items() if target.split("@")[0] == name)
            if pointing:
                raise InvalidInput(f"alias {', '.join(pointing)} points at {name!r}; remove or move the alias first")
            directory = self.directory(name)
            if not directory.is_dir():
                self.current(name)
            aside = self.root / "collections" / f".dropped-{uuid.uuid4().hex}"
            directory.rename(aside)
        sync_directory(aside.parent)
        return aside


def _read(path: Path) -> str:
    """What a small file holds, "" where it is not there."""
    try:
        return path.read_text()
    except OSError:
        return ""
