"""An exported version gives the same results elsewhere; an archive that is not whole gives none."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from indexes.archive import LIST, export_archive, import_archive
from indexes.collection import Collection
from indexes.corpus import Document
from indexes.errors import CollectionDamaged, CollectionExists, CollectionNotFound, InvalidInput
from indexes.home import Home
from indexes.vectors import VectorSettings, checksum
from tests.indexes.conftest import Shelf, dense, documents, everywhere

QUERIES = [document.text for document in documents(8, seed=4)]


def results(collection: Collection) -> list[object]:
    """Rows, ids and scores of both searches for some questions."""
    snapshot = collection.snapshot()
    return [
        [(row, chunk, score) for row, chunk, score in found]
        for text in QUERIES
        for found in (snapshot.search_sparse(text, 10), dense(collection, text, 10))
    ]


@pytest.fixture
def archive(shelf: Shelf, tmp_path: Path) -> Path:
    shelf.build("c", documents(60), VectorSettings(kind="hnsw"))
    export_archive(shelf.home, "c", tmp_path / "c.tar.gz")
    return tmp_path / "c.tar.gz"


def test_an_imported_collection_answers_as_the_exported_one(shelf: Shelf, archive: Path, tmp_path: Path) -> None:
    there = Home(tmp_path / "elsewhere")
    assert import_archive(there, "other", archive).version == 1
    assert results(Collection(there, "other")) == results(shelf.open("c"))
    import_archive(shelf.home, "c", archive)
    assert shelf.home.current("c") == 2
    assert not list(shelf.home.root.glob(".export-*"))
    assert not list(archive.parent.glob("*.part"))


def test_changes_travel_along_and_go_on(shelf: Shelf, tmp_path: Path) -> None:
    shelf.build("c", documents(30))
    collection = shelf.open("c")
    collection.add(documents(5, first=100), shelf.encoder)
    collection.delete(["d0003", "d0104"])
    shelf.home.set_alias("live", "c@1")
    export_archive(shelf.home, "live", tmp_path / "c.tgz")
    import_archive(shelf.home, "copy", tmp_path / "c.tgz")
    copy = shelf.open("copy")
    assert results(copy) == results(collection)
    for one in (copy, collection):
        one.add([Document("d0003", "", "hello"), *documents(2, first=100, seed=9)], shelf.encoder)
        one.delete(["d0000"])
    assert results(copy) == results(collection)
    assert everywhere(copy) == everywhere(collection)
    assert len(everywhere(copy)[0]) == 33


def test_nothing_is_overwritten_and_no_directory_invented(shelf: Shelf, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="exists; choose another name"):
        export_archive(shelf.home, "c", archive)
    with pytest.raises(InvalidInput, match="has no directory"):
        export_archive(shelf.home, "c", tmp_path / "nowhere" / "c.tgz")
    with pytest.raises(CollectionNotFound):
        export_archive(shelf.home, "nobody", tmp_path / "n.tgz")
    with pytest.raises(InvalidInput, match="there is no archive"):
        import_archive(shelf.home, "d", tmp_path / "nothing.tgz")
    shelf.home.set_alias("live", "c")
    with pytest.raises(CollectionExists):
        import_archive(shelf.home, "live", archive)


def repack(archive: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    change(files)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def flip(files: dict[str, bytes]) -> None:
    name = next(name for name in files if name.endswith(".f32"))
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])


def leave(files: dict[str, bytes]) -> None:
    del files["manifest.json"]


def add(files: dict[str, bytes]) -> None:
    files["extra"] = b"x"


def climb(files: dict[str, bytes]) -> None:
    files["../../../../escaped"] = b"x"


def root(files: dict[str, bytes]) -> None:
    files["vectors/../../../../../escaped"] = b"x"


def no_list(files: dict[str, bytes]) -> None:
    files[LIST] = b"7"


def empty_list(files: dict[str, bytes]) -> None:
    files.clear()
    files[LIST] = b"{}"


@pytest.mark.parametrize("change", [flip, leave, add, climb, root, no_list, empty_list])
def test_an_altered_archive_is_refused(
    shelf: Shelf, archive: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None]
) -> None:
    repack(archive, change)
    before = everywhere(shelf.open("c"))
    for name in ("c", "new"):
        with pytest.raises(CollectionDamaged):
            import_archive(shelf.home, name, archive)
    assert shelf.home.names() == ["c"]
    assert shelf.home.versions("c") == [1]
    assert everywhere(shelf.open("c")) == before
    assert not list(tmp_path.rglob("escaped"))
    assert not list(tmp_path.rglob("importing"))


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.9, 0.97])
def test_a_truncated_archive_is_refused(shelf: Shelf, archive: Path, keep: float) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CollectionDamaged, match="export it again"):
        import_archive(shelf.home, "new", archive)


def test_an_archive_with_garbled_bytes_is_refused(shelf: Shelf, archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    for at in range(len(content) // 4, len(content), len(content) // 4):
        content[at : at + 64] = bytes(64)
    archive.write_bytes(content)
    with pytest.raises(CollectionDamaged):
        import_archive(shelf.home, "new", archive)


def test_a_link_out_of_the_archive_is_refused(shelf: Shelf, archive: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(CollectionDamaged):
        import_archive(shelf.home, "new", tmp_path / "link.tgz")


def test_the_checksums_in_an_archive_are_those_of_its_files(shelf: Shelf, archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    sums = json.loads((tmp_path / "out" / LIST).read_text())
    assert sums == {name: checksum(tmp_path / "out" / name) for name in sums}
    assert {"manifest.json", "documents.sqlite", "generation"} <= set(sums)
    assert not [name for name in sums if name.endswith(("write.lock", "-wal", "-shm", "build.json"))]
