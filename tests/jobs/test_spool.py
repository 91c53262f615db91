"""Names, turns and the brake, without a server."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from rag.errors import InvalidInput
from rag.jobs.record import Job
from rag.jobs.spool import Spool, safe_parts, sweep
from rag.jobs.store import JobStore, TokenTaken
from rag.jobs.turns import Turns
from rag.jobs_table import JobsConfig


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.txt", ("a.txt",)),
        ("notes/deep/a b.txt", ("notes", "deep", "a b.txt")),
        ("notes\\a.txt", ("notes", "a.txt")),
        ("./notes//a.txt", ("notes", "a.txt")),
        ("prüfung.txt", ("prüfung.txt",)),
    ],
)
def test_a_path_below_the_folder_stays_one(name: str, parts: tuple[str, ...]) -> None:
    assert safe_parts(name) == parts


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/a",
        "\\a",
        "a/../b",
        "C:\\a",
        ".a",
        "a/.b/c",
        "a\nb",
        "a\x00",
        "\ud800",
        "x" * 256,
        "a/" * 16 + "b",
    ],
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="no file name"):
        safe_parts(name)


def test_the_digest_is_of_names_and_contents_however_they_are_cut(tmp_path: Path) -> None:
    def digest(number: int, files: list[tuple[str, list[bytes]]]) -> str:
        spool = Spool(tmp_path, str(number), JobsConfig())
        for name, parts in files:
            spool.begin(name)
            for part in parts:
                spool.write(part)
            spool.end()
        spool.keep()
        return spool.digest

    one = digest(1, [("a.txt", [b"xy", b"z"]), ("b.txt", [b""])])
    assert one == digest(2, [("a.txt", [b"xyz"]), ("b.txt", [b""])])
    others = [[("a.txt", [b"xyz"])], [("a.txt", [b"xy"]), ("b.txt", [b"z"])], [("a.tx", [b"txyz"]), ("b.txt", [b""])]]
    assert len({one, *(digest(3 + at, files) for at, files in enumerate(others))}) == 4
    assert (tmp_path / "1" / "files" / "a.txt").read_bytes() == b"xyz"


def test_the_store_keeps_one_job_a_token_and_forgets_the_old(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    jobs = [Job(id=str(n), collection="c", mode="add", kind="rows", created=float(n)) for n in range(4)]
    assert store.add(jobs[0], digest="x", token="t") is jobs[0]
    assert store.add(jobs[1], digest="x", token="t").id == "0"
    with pytest.raises(TokenTaken):
        store.add(jobs[1], digest="y", token="t")
    for job in jobs[1:]:
        store.add(job, digest="")
    store.update("0", state="done", finished=10.0)
    store.update("1", state="failed", finished=20.0)
    store.update("2", state="cancelled", finished=30.0)
    assert store.counts() == {"done": 1, "failed": 1, "cancelled": 1, "queued": 1}
    assert store.prune(older=15.0, keep=10) == ["0"]
    assert store.prune(older=0.0, keep=1) == ["1"]
    assert [job.id for job in store.newest()] == ["3", "2"]
    store.close()


def test_who_works_without_end_gives_way_to_all_others() -> None:
    """Three share one turn: none works while another does, and none gets two slices more than another."""
    turns, slices, at_work, most = Turns(1, 0.005), dict.fromkeys(range(3), 0), [0], [0]
    end = time.monotonic() + 1.0

    def work(number: int) -> None:
        turns.take(lambda: None)
        at_work[0] += 1
        while time.monotonic() < end:
            most[0] = max(most[0], at_work[0])
            begun = time.monotonic()
            while time.monotonic() - begun < 0.006:
                time.sleep(0.001)
            slices[number] += 1
            at_work[0] -= 1
            turns.breathe(lambda: None)
            at_work[0] += 1
        at_work[0] -= 1
        turns.give()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert min(slices.values()) >= 3
    assert max(slices.values()) - min(slices.values()) <= 3, slices


def test_who_leaves_the_line_holds_nobody_up() -> None:
    turns = Turns(1, 10)
    turns.take(lambda: None)

    def leave() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        turns.take(leave)
    turns.give()
    turns.take(lambda: pytest.fail("the turn is free"))
    turns.give()


def test_sweeping_leaves_what_is_needed(tmp_path: Path) -> None:
    old = time.time() - 2 * 86_400
    for name in ("over", "living", ".incoming-new", ".incoming-old"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (old, old) if name != ".incoming-new" else None)
    os.utime(tmp_path / "over")
    sweep(tmp_path, {"living"}, lambda name: name == "over")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".incoming-new", "living"]
