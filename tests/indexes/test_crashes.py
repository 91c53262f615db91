"""Killed at any moment or out of disk, a collection is before a change or after it, and a build goes on.

Run as a program (``python -m tests.indexes.test_crashes``) it is the process that dies.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest

from indexes import build as building
from indexes import extend as extending
from indexes.collection import Collection
from indexes.corpus import Document
from indexes.errors import CollectionBusy, StorageFull
from indexes.extend import extend
from indexes.home import Home
from indexes.vectors import VectorSettings, checksum
from tests.fakes import HashingEncoder, ListSource
from tests.indexes.conftest import Shelf, Start, documents, everywhere

HNSW = VectorSettings(kind="hnsw")
N, BATCH = 230, 50


# --- the process that dies ---


def more() -> list[Document]:
    """What extends ``documents(20)``: five of them with another text, and all up to N."""
    return documents(N - 15, seed=2, first=15)


def before_call(target: str, number: int, act: Callable[[], object]) -> None:
    """Have ``act`` run just before the ``number``-th call of a function, ``module:function`` or ``module:Class.f``."""
    module, _, name = target.partition(":")
    holder: Any = import_module(module)
    *path, name = name.split(".")
    for step in path:
        holder = getattr(holder, step)
    real, calls = getattr(holder, name), [0]

    def wrapped(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            act()
        return real(*arguments, **named)

    setattr(holder, name, wrapped)


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after_steps(n: int) -> set[str]:
    """Which documents exist after n changes: even ones add three, odd ones delete the middle one of them."""
    ids = {document.id for document in documents(20)}
    for step in range(n):
        first = 100 + 3 * (step // 2)
        ids |= {f"d{first + i:04d}" for i in range(3)} if step % 2 == 0 else set()
        ids -= {f"d{first + 1:04d}"} if step % 2 else set()
    return ids


def change(collection: Collection, step: int) -> None:
    first = 100 + 3 * (step // 2)
    if step % 2 == 0:
        collection.add(documents(3, first=first), HashingEncoder())
    else:
        collection.delete([f"d{first + 1:04d}"])


def main(root: str, command: str, *arguments: str) -> None:
    building.ENCODE_BATCH, building.READ_BATCH = BATCH, 100
    shelf = Shelf(Home(Path(root)), HashingEncoder(seconds=0.05 if command == "slowly" else 0.0))
    if command in ("build", "slowly"):
        if arguments:
            before_call(arguments[0], int(arguments[1]), die)
        say("started")
        built = shelf.build("c", documents(N, seed=1), HNSW)
        say("built", built.place.version)
    elif command == "extend":
        extending.BATCH = BATCH
        before_call(arguments[0], int(arguments[1]), die)
        say("started")
        say("extended", extend(shelf.home, "c", ListSource(more()), shelf.encoder).place.version)
    elif command == "change":
        collection = shelf.open("c")
        collection.snapshot().search_sparse("hello", 1)
        if arguments:
            before_call(arguments[0], int(arguments[1]), die)
        for step in range(1000):
            say("at", step)
            change(collection, step)
    elif command == "watch":
        collection = shelf.open("c")
        for _ in sys.stdin:
            say(json.dumps([sorted(ids) for ids in everywhere(collection)]))
    elif command == "full":
        say(json.dumps(fill_the_disk(shelf, *arguments)))


# --- building ---


def wait(process: subprocess.Popen[str]) -> str:
    """What the process printed; it has ended."""
    output, _ = process.communicate(timeout=120)
    return output


@pytest.mark.parametrize(
    ("target", "call", "encoded"),
    [
        ("indexes.build:_Build._take_in", 150, 0),
        ("indexes.lucene:LuceneWriter.commit", 1, 0),
        ("tests.fakes:HashingEncoder.encode_passages", 4, 3 * BATCH),
        ("indexes.build:write_ann", 1, N),
        ("indexes.home:sync_directory", 1, N),  # moved in place, not pointed to
    ],
)
def test_a_killed_build_leaves_the_old_version_serving_and_goes_on_where_it_was(
    shelf: Shelf, start: Start, monkeypatch: pytest.MonkeyPatch, target: str, call: int, encoded: int
) -> None:
    monkeypatch.setattr(building, "ENCODE_BATCH", BATCH)
    shelf.build("c", documents(20))
    collection = shelf.open("c")
    process = start(shelf.home.root, "build", target, call)
    assert "built" not in wait(process)
    assert process.returncode == -signal.SIGKILL
    assert shelf.home.current("c") == 1
    assert everywhere(collection) == everywhere(shelf.open("c")) == ({d.id for d in documents(20)},) * 3

    shelf.encoder.encoded.clear()
    built = shelf.build("c", documents(N, seed=1), HNSW)
    assert built.resumed
    assert built.place.version == 2
    assert len(shelf.encoder.encoded) == N - encoded
    assert everywhere(collection) == ({d.id for d in documents(N)},) * 3
    assert shelf.home.versions("c") == [1, 2]
    assert not shelf.home.building("c").exists()
    assert not (built.place.path / "build.json").exists()

    whole = shelf.build("whole", documents(N, seed=1), HNSW)
    names = [path.relative_to(whole.place.path) for path in whole.place.path.glob("vectors/*")]
    assert [checksum(built.place.path / name) for name in names] == [
        checksum(whole.place.path / name) for name in names
    ]
    assert built.manifest.ann_checksum == whole.manifest.ann_checksum


def test_a_build_killed_at_random_moments_is_finished_in_the_end(shelf: Shelf, start: Start) -> None:
    shelf.build("c", documents(20))
    random = Random(5)
    for _ in range(2):
        process = start(shelf.home.root, "slowly")
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(random.uniform(0.1, 1.2))
        process.kill()
        wait(process)
        versions = shelf.home.versions("c")
        expected = documents(20) if shelf.home.current("c") == 1 else documents(N, seed=1)
        assert everywhere(shelf.open("c")) == ({d.id for d in expected},) * 3
        assert len(versions) <= 2
    shelf.build("c", documents(N, seed=1), HNSW)
    assert everywhere(shelf.open("c")) == ({d.id for d in documents(N)},) * 3


def test_the_second_of_two_builders_hears_who_is_building(shelf: Shelf, start: Start) -> None:
    process = start(shelf.home.root, "slowly", "indexes.build:Home.publish", 1)
    assert process.stdout is not None
    process.stdout.readline()
    while not shelf.home.building("c").exists():
        time.sleep(0.01)
    with pytest.raises(CollectionBusy, match=f"process {process.pid} is writing to collection 'c'"):
        shelf.build("c", documents(3))
    process.kill()
    wait(process)
    assert shelf.build("c", documents(3)).place.version == 1, "a dead builder's lock is free"


# --- extending ---


@pytest.mark.parametrize(
    ("target", "call", "encoded"),
    [
        ("indexes.documents:DocumentStore.copy_to", 1, 0),
        ("indexes.extend:write_atomic", 1, 0),  # copied, not noted
        ("tests.fakes:HashingEncoder.encode_passages", 3, 2 * BATCH),
        ("indexes.changes:DocumentStore.add_segment", 3, 2 * BATCH),
        ("indexes.changes:follow", 3, 3 * BATCH),  # SQLite has the third batch, nobody else
        ("indexes.lucene:LuceneWriter.commit", 3, 3 * BATCH),
        ("indexes.manifest:Manifest.write", 1, N - 15),
        ("indexes.home:sync_directory", 1, N - 15),  # moved in place, not pointed to
    ],
)
def test_a_killed_extension_leaves_the_old_version_serving_and_goes_on_where_it_was(
    shelf: Shelf, start: Start, monkeypatch: pytest.MonkeyPatch, target: str, call: int, encoded: int
) -> None:
    monkeypatch.setattr(extending, "BATCH", BATCH)
    shelf.build("c", documents(20))
    process = start(shelf.home.root, "extend", target, call)
    assert "extended" not in wait(process)
    assert process.returncode == -signal.SIGKILL
    assert shelf.home.current("c") == 1
    collection = shelf.open("c")
    assert everywhere(collection) == ({d.id for d in documents(20)},) * 3
    shelf.encoder.encoded.clear()
    built = extend(shelf.home, "c", ListSource(more()), shelf.encoder)
    assert (built.resumed, built.place.version, built.skipped) == (encoded > 0, 2, ())
    assert len(shelf.encoder.encoded) == N - 15 - encoded
    assert everywhere(collection) == ({d.id for d in documents(N)},) * 3
    texts = {document.id: document.text for document in [*documents(20), *more()]}
    assert all(collection.document(doc_id) == replace_text(doc_id, text) for doc_id, text in texts.items())
    assert not shelf.home.building("c").exists()


def replace_text(doc_id: str, text: str) -> Document:
    return replace(documents(1, first=int(doc_id[1:]))[0], text=text)


# --- adding and deleting ---


@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("indexes.changes:DocumentStore.add_segment", 2),  # the vectors lie there, SQLite does not know them
        ("indexes.changes:follow", 1),  # SQLite has it, nobody else
        ("indexes.lucene:LuceneWriter.commit", 2),
        ("indexes.lucene:LuceneWriter.close", 3),  # Lucene has it, SQLite does not know
        ("indexes.changes:announce", 4),
    ],
)
def test_killed_in_a_change_all_parts_agree_after_opening(shelf: Shelf, start: Start, target: str, call: int) -> None:
    shelf.build("c", documents(20))
    done = killed_changes(wait(start(shelf.home.root, "change", target, call)))
    stored, sparse, near = everywhere(shelf.open("c"))
    assert stored == sparse == near
    assert stored in (after_steps(done), after_steps(done + 1))
    change(shelf.open("c"), 50)
    assert everywhere(shelf.open("c")) == (stored | {"d0175", "d0176", "d0177"},) * 3


def killed_changes(output: str) -> int:
    """How many changes had been acknowledged."""
    return int(output.split()[-1])


def test_killed_at_random_moments_of_changes_all_parts_agree(shelf: Shelf, start: Start) -> None:
    random = Random(7)
    for round_number in range(2):
        name = f"{shelf.home.root}-{round_number}"
        there = Shelf(Home(Path(name)))
        there.build("c", documents(20))
        process = start(name, "change")
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(random.randint(2, 12))]
        time.sleep(random.uniform(0, 0.06))
        process.kill()
        done = killed_changes("".join(lines) + wait(process))
        stored, sparse, near = everywhere(there.open("c"))
        assert stored == sparse == near
        assert stored in (after_steps(done), after_steps(done + 1))


def test_another_process_sees_a_change_as_soon_as_it_is_made(shelf: Shelf, start: Start) -> None:
    shelf.build("c", documents(20))
    collection = shelf.open("c")
    process = start(shelf.home.root, "watch", stdin=True)
    assert process.stdin is not None
    assert process.stdout is not None
    for step in range(-1, 6):
        if step >= 0:
            change(collection, step)
        process.stdin.write("now\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == [sorted(after_steps(step + 1))] * 3
    shelf.build("c", documents(5, seed=3))
    process.communicate("now\n")
    assert process.returncode == 0


# --- no room ---


def fill_the_disk(shelf: Shelf, target: str, call: str) -> dict[str, object]:
    """Build, fill the disk at one moment of the next build, make room, build on; then the same with a change."""
    ballast, seen = shelf.home.root / "ballast", dict[str, object]()

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    shelf.build("c", documents(20))
    collection = shelf.open("c")
    everywhere(collection)
    before_call(target, int(call), fill)
    try:
        shelf.build("c", documents(N, seed=1), HNSW)
    except StorageFull as error:
        seen["build"] = str(error)
    seen["serves"] = [len(ids) for ids in everywhere(collection)]
    ballast.unlink()
    built = shelf.build("c", documents(N, seed=1), HNSW)
    seen["resumed"] = [built.resumed, built.place.version]
    everywhere(collection)  # open: SQLite needs 32 KiB on the disk to open a file

    fill()
    try:
        collection.add(documents(40, first=1000, words=400), shelf.encoder)
    except StorageFull as error:
        seen["add"] = str(error)
    seen["still"] = [len(ids) for ids in everywhere(collection)]
    ballast.unlink()
    collection.add(documents(40, first=1000, words=400), shelf.encoder)
    seen["after"] = [len(ids) for ids in everywhere(collection)]
    return seen


@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("indexes.lucene:LuceneWriter.add", 1),
        ("tests.fakes:HashingEncoder.encode_passages", 3),
        ("indexes.build:write_ann", 1),
    ],
)
def test_a_full_disk_is_told_the_old_version_serves_and_the_build_goes_on(
    tmp_path: Path, start: Start, target: str, call: int
) -> None:
    mount = 'mount -t tmpfs -o size=24m none "$0" && exec "$@"'
    prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(tmp_path)]
    able = shutil.which("unshare") and not subprocess.run([*prefix, "true"], capture_output=True).returncode
    if not able:
        pytest.skip("no small disk to fill: this system lets tests mount nothing (unshare --map-root-user --mount)")
    output = wait(start(tmp_path, "full", target, call, prefix=prefix))
    seen = json.loads(output.splitlines()[-1])
    assert "no room left on the disk" in seen["build"]
    assert seen["serves"] == [20, 20, 20]
    assert seen["resumed"] == [True, 2]
    assert "no room left on the disk" in seen["add"]
    assert seen["still"] == [N, N, N]
    assert seen["after"] == [N + 40] * 3


if __name__ == "__main__":
    main(*sys.argv[1:])
