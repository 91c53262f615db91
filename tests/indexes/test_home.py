"""Names, versions and aliases: one rename decides, and nothing points at what is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from indexes.errors import CollectionBusy, CollectionDamaged, CollectionExists, CollectionNotFound, InvalidInput
from indexes.home import Home, check_name
from tests.indexes.conftest import Shelf, documents, everywhere


def publish(home: Home, name: str) -> int:
    """A version that holds one empty file."""
    with home.lock(name):
        home.building(name).mkdir(parents=True)
        (home.building(name) / "file").touch()
        return home.publish(name, home.building(name)).version


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


BAD = ["", ".", "..", "../x", "a/b", "a\\b", "/etc", "a..b", ".hidden", "-x", "a b", "a\n", "x" * 65, "ä", "a@1", "a\0"]


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_could_leave_its_directory_is_refused(home: Home, name: str) -> None:
    publish(home, "good")
    with pytest.raises(InvalidInput, match="no collection name"):
        check_name(name)
    for use in (home.directory, home.current, home.drop, home.versions):
        with pytest.raises(InvalidInput):
            use(name)
    with pytest.raises(InvalidInput):
        home.set_alias(name, "good")
    with pytest.raises((InvalidInput, CollectionNotFound)):
        home.resolve(f"../{name}@1")
    assert not [path for path in home.root.parent.iterdir() if path != home.root]


@pytest.mark.parametrize("name", ["a", "A.b_c-1", "x" * 64, "0"])
def test_plain_names_are_taken(name: str) -> None:
    assert check_name(name) == name


def test_versions_count_up_and_two_are_kept(home: Home) -> None:
    assert [publish(home, "c") for _ in range(4)] == [1, 2, 3, 4]
    assert home.versions("c") == [3, 4]
    assert home.current("c") == 4
    assert home.resolve("c").version == 4
    assert home.resolve("c@3").path.is_dir()
    with pytest.raises(CollectionNotFound, match=r"no version 1 of collection 'c' \(there: 3, 4\)"):
        home.resolve("c@1")
    with pytest.raises(InvalidInput, match="write name@3"):
        home.resolve("c@latest")


def test_a_missing_collection_says_what_is_there_and_how_to_build_it(home: Home) -> None:
    with pytest.raises(CollectionNotFound, match=r"none yet.*kvasir index c SOURCE"):
        home.resolve("c")
    publish(home, "other")
    with pytest.raises(CollectionNotFound, match="there: other"):
        home.resolve("c")


def test_an_alias_is_set_moved_and_removed(home: Home) -> None:
    publish(home, "a")
    publish(home, "b")
    home.set_alias("live", "a")
    assert home.resolve("live").name == "a"
    home.set_alias("live", "b@1")
    assert (home.resolve("live").name, home.resolve("live").version) == ("b", 1)
    home.set_alias("live", None)
    assert home.aliases() == {}
    with pytest.raises(CollectionNotFound, match="no alias 'live'"):
        home.set_alias("live", None)
    with pytest.raises(CollectionNotFound):
        home.set_alias("live", "nowhere")
    home.set_alias("one", "a")
    with pytest.raises(InvalidInput, match="itself an alias; point at 'a'"):
        home.set_alias("two", "one")


def test_an_alias_to_a_version_keeps_that_version(home: Home) -> None:
    publish(home, "c")
    home.set_alias("pinned", "c@1")
    for _ in range(4):
        publish(home, "c")
    assert home.versions("c") == [1, 4, 5]
    assert home.resolve("pinned").path.is_dir()
    home.set_alias("pinned", None)
    publish(home, "c")
    assert home.versions("c") == [5, 6]


def test_an_alias_never_hides_a_collection(home: Home, shelf: Shelf) -> None:
    publish(home, "a")
    publish(home, "b")
    with pytest.raises(CollectionExists, match="'a' is a collection"):
        home.set_alias("a", "b")
    home.set_alias("live", "a")
    with pytest.raises(CollectionExists, match="'live' is an alias of 'a'"):
        publish(home, "live")
    assert home.names() == ["a", "b"]

    shelf.build("real", documents(3))
    shelf.home.set_alias("alias", "real")
    with pytest.raises(CollectionExists, match="remove the alias or choose another name"):
        shelf.build("alias", documents(3))
    assert not shelf.home.building("alias").exists()


def test_a_collection_an_alias_names_is_not_dropped(home: Home) -> None:
    publish(home, "c")
    home.set_alias("live", "c@1")
    with pytest.raises(InvalidInput, match="alias live points at 'c'"):
        home.drop("c")
    home.set_alias("live", None)
    home.drop("c")
    assert home.names() == []
    assert list((home.root / "collections").iterdir()) == []
    with pytest.raises(CollectionNotFound):
        home.drop("c")


def test_what_a_killed_drop_left_is_no_collection_and_goes_with_the_next_drop(home: Home) -> None:
    publish(home, "a")
    publish(home, "b")
    home.directory("a").rename(home.root / "collections" / ".dropped-0123")
    assert home.names() == ["b"]
    home.drop("b")
    assert list((home.root / "collections").iterdir()) == []


def test_a_reader_by_alias_follows_at_once(shelf: Shelf) -> None:
    shelf.build("a", documents(3))
    shelf.build("b", documents(5))
    shelf.home.set_alias("live", "a")
    live = shelf.open("live")
    assert len(everywhere(live)[0]) == 3
    shelf.home.set_alias("live", "b")
    assert [len(ids) for ids in everywhere(live)] == [5, 5, 5]
    shelf.home.set_alias("live", None)
    with pytest.raises(CollectionNotFound):
        live.snapshot()


@pytest.mark.parametrize("content", [b"{", b"[]", b"3", b"\xff"])
def test_damaged_aliases_are_told(home: Home, content: bytes) -> None:
    home.root.mkdir()
    (home.root / "aliases.json").write_bytes(content)
    with pytest.raises(CollectionDamaged, match="mend or remove it"):
        home.resolve("c")


def test_a_pointer_without_a_number_is_damage(home: Home) -> None:
    publish(home, "c")
    (home.directory("c") / "current").write_text("")
    with pytest.raises(CollectionDamaged, match="holds no version number"):
        home.resolve("c")


def test_one_writer_at_a_time_and_the_lock_is_free_after_an_error(home: Home) -> None:
    with home.lock("c"):
        with pytest.raises(CollectionBusy, match=f"process {os.getpid()} is writing to collection 'c'"), home.lock("c"):
            pass
        with home.lock("d"):
            pass
    with pytest.raises(ZeroDivisionError), home.lock("c"):
        1 / 0  # noqa: B018
    with home.lock("c"):
        pass
    assert [path.name for path in (home.root / "locks").iterdir() if path.suffix != ".lock"] == []


def test_a_version_that_could_not_be_pointed_to_goes_back_to_the_builder(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(home, "c")
    (home.directory("c") / "current").unlink()
    (home.directory("c") / "current").mkdir()  # no file can take its place
    with pytest.raises(OSError, match="directory"):
        publish(home, "c")
    assert home.versions("c") == [1]
    assert (home.building("c") / "file").exists()
