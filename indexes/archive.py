"""A version as one file, to be carried to another machine."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

from indexes.documents import DocumentStore
from indexes.durable import space_needed
from indexes.errors import CollectionDamaged, InvalidInput
from indexes.home import UNFINISHED, Home, Place
from indexes.manifest import read_manifest
from indexes.vectors import checksum

LIST = "checksums.json"


def export_archive(home: Home, reference: str, archive: Path) -> None:
    """Write the version ``reference`` means as .tar.gz, complete or not at all; writers are kept out meanwhile."""
    if archive.exists() or not archive.parent.is_dir():
        rule = "exists; choose another name or remove it" if archive.exists() else "has no directory; make it first"
        raise InvalidInput(f"{archive} {rule}")
    beside = archive.with_name(f".{archive.name}.part")
    try:
        with home.lock(home.resolve(reference).name, wait=10):
            _pack(home, home.resolve(reference), beside)
        beside.replace(archive)
    finally:
        beside.unlink(missing_ok=True)


def _pack(home: Home, place: Place, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".export-") as temporary:
        store = DocumentStore(place.path / "documents.sqlite")
        store.copy_to(Path(temporary) / "documents.sqlite")
        store.close()
        files = {"documents.sqlite": Path(temporary) / "documents.sqlite"}
        for path in sorted(place.path.rglob("*")):
            name = path.relative_to(place.path).as_posix()
            left_out = name.startswith(("documents.sqlite", ".", UNFINISHED)) or path.name == "write.lock"
            if path.is_file() and not left_out:
                files[name] = path
        sums = {name: checksum(path) for name, path in files.items()}
        with space_needed(home.root):
            (Path(temporary) / LIST).write_text(json.dumps(sums, indent=1))
        with space_needed(archive.parent), tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for name, path in {LIST: Path(temporary) / LIST, **files}.items():
                tar.add(path, arcname=name)


def import_archive(home: Home, name: str, archive: Path) -> Place:
    """Publish an exported version as the next version of ``name``. Every file must match its checksum."""
    if not archive.is_file():
        raise InvalidInput(f"there is no archive {archive}")
    home.refuse_alias(name)
    with home.lock(name, wait=10):
        directory = home.directory(name) / "importing"
        with space_needed(home.root):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        try:
            with space_needed(home.root), tarfile.open(archive) as tar:
                tar.extractall(directory, filter="data")
            _verify(directory, archive)
            read_manifest(directory)
            store = DocumentStore(directory / "documents.sqlite")
            store.check()
            store.close()
            return home.publish(name, directory)
        except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, TypeError) as error:
            raise CollectionDamaged(f"{archive} cannot be imported ({error}); export it again") from error
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _verify(directory: Path, archive: Path) -> None:
    sums = json.loads((directory / LIST).read_text())
    (directory / LIST).unlink()
    found = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    wrong = sorted(found ^ set(sums)) or [name for name in sorted(found) if checksum(directory / name) != sums[name]]
    if wrong:
        raise CollectionDamaged(f"{archive} is damaged: {wrong[0]} is missing, added or altered; export it again")
