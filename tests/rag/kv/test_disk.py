"""Files: crashes, other processes, full disks, damaged and missing files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rag.errors import CacheUnavailable
from rag.kv.disk import DiskStore
from rag.kv.key import chunk_key
from rag.kv.store import Value
from tests.rag.kv.chunks import FINGERPRINT, value

KEYS = [chunk_key([n], FINGERPRINT) for n in range(1, 60)]
MANY = 10**9


START = """
import os, random, resource, sys
from pathlib import Path
from rag.errors import CacheUnavailable
from rag.kv.disk import DiskStore
root, keys, MANY = Path(sys.argv[1]), sys.argv[2].split(), 10**9
def value(n, nbytes): return bytes([n]) * nbytes
"""
"""What a process of its own begins with; it loads nothing heavy."""


def run(code: str, root: Path, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", START + code, str(root), " ".join(KEYS), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def plain(n: int, nbytes: int) -> bytes:
    """The value that a process of its own writes."""
    return bytes([n]) * nbytes


def files_of(root: Path) -> list[Path]:
    return list(root.glob("[0-9a-f][0-9a-f]/*"))


def test_what_one_store_wrote_another_reads_and_goes_on_counting(tmp_path: Path) -> None:
    first = DiskStore(tmp_path, 3_000)
    for n in (0, 1, 2):
        first.put(KEYS[n], value(n, 1000))
    for _ in range(3):
        first.get(KEYS[0])
    first.close()
    again = DiskStore(tmp_path, 3_000)
    assert again.get(KEYS[1]) == value(1, 1000)
    again.put(KEYS[3], value(3, 1000))  # KEYS[2] alone was never asked for
    assert sorted(again.keys()) == sorted([KEYS[0], KEYS[1], KEYS[3]])


def test_nothing_is_made_before_the_first_call(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "states", MANY)
    assert store.get(KEYS[0]) is None
    assert not (tmp_path / "states").exists()
    store.put(KEYS[0], value())
    assert (tmp_path / "states").stat().st_mode & 0o077 == 0  # what documents say is nobody else's business
    (file,) = files_of(tmp_path / "states")
    assert file.stat().st_mode & 0o077 == 0


def test_a_killed_writer_leaves_whole_values_only(tmp_path: Path) -> None:
    size = 8 * 2**20
    code = f"""
store = DiskStore(root, MANY)
for n, key in enumerate(keys):
    print(n, flush=True)
    store.put(key, value(n, {size}))
"""
    for seen in (1, 4):
        process = run(code, tmp_path)
        assert process.stdout is not None
        for _ in range(seen + 1):
            process.stdout.readline()
        time.sleep(0.004 * seen)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        unfinished = set((tmp_path / "unfinished").iterdir())
        store = DiskStore(tmp_path, MANY)
        found = store.get_many(KEYS)
        assert sum(one is not None for one in found) >= seen
        assert all(one is None or one == plain(n, size) for n, one in enumerate(found))
        store.stats()
        assert not unfinished & set((tmp_path / "unfinished").iterdir())
        store.close()


def test_processes_share_one_bound_and_never_see_half_a_value(tmp_path: Path) -> None:
    code = """
store = DiskStore(root, 200_000)
chance = random.Random(int(sys.argv[3]))
for _ in range(100):
    n = chance.randrange(59)
    found = store.get(keys[n])
    assert found is None or found == value(n, 9_000), n
    store.put(keys[n], value(n, 9_000))
    if chance.random() < 0.1:
        store.delete([keys[n]])
store.close()
"""
    processes = [run(code, tmp_path, seed) for seed in range(3)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    store = DiskStore(tmp_path, 200_000)
    store.get_many(KEYS)
    store.put(KEYS[0], plain(0, 9_000))
    held = sum(file.stat().st_size for file in files_of(tmp_path))
    assert 100_000 < held <= 200_000
    assert held == store.stats().nbytes
    assert not list((tmp_path / "unfinished").iterdir())


FULL = """
store = DiskStore(root, MANY)
assert store.put(keys[0], value(0, 2**20))
try:
    store.put(keys[1], value(1, 8 * 2**20))
except CacheUnavailable as error:
    print(error)
stats = store.stats()
assert (stats.errors, stats.entries, stats.nbytes) == (1, 1, 2**20), stats
assert store.get(keys[0]) == value(0, 2**20)
assert store.get(keys[1]) is None
assert store.put(keys[2], value(2, 2**19))
print([*(root / "unfinished").iterdir()])
"""


def test_a_file_the_system_will_not_take_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    """RLIMIT_FSIZE ends the write halfway."""
    process = run("resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 2**20, 2 * 2**20))\n" + FULL, tmp_path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "a file of the chunk cache cannot be written" in out
    assert "File too large" in out
    assert out.endswith("[]\n")
    assert len(files_of(tmp_path)) == 2


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    """A tmpfs of 4 MiB, mounted in a namespace of its own."""
    script = 'mount -t tmpfs -o size=4m none "$1" && exec "$3" -c "$4" "$1" "$2"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), " ".join(KEYS), sys.executable, START + FULL]
    root = Path(__file__).parents[3]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("there is no unshare here to mount a file system of its own with")
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system of its own can be mounted here: {done.stderr.strip()[:80]}")
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_a_directory_that_cannot_be_made_is_a_store_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = DiskStore(tmp_path / "file" / "states", MANY)
    for call in (lambda: store.get(KEYS[0]), lambda: store.put(KEYS[0], b"x"), store.stats):
        with pytest.raises(CacheUnavailable, match="chunk cache cannot be"):
            call()
    assert store._tally.errors == 3


def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """The checksums tell; a mapping of the file would end the process."""
    store = DiskStore(tmp_path, MANY)
    store.put(KEYS[0], value(0, 100_000))
    found = store.get(KEYS[0])
    (file,) = files_of(tmp_path)
    os.truncate(file, 1000)
    assert found == value(0, 100_000)
    assert store.get(KEYS[0]) == value(0, 100_000)[:1000]


def test_what_is_no_file_or_larger_than_all_is_not_read(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, 1_000_000)
    store.put(KEYS[0], value())
    (file,) = files_of(tmp_path)
    file.unlink()
    os.mkfifo(file)
    assert store.get(KEYS[0]) is None
    file.unlink()
    with file.open("wb") as handle:
        handle.truncate(2**40)
    assert store.get(KEYS[0]) is None


@pytest.mark.parametrize("damage", ["gone", "garbage", "empty"])
def test_a_lost_ledger_is_written_again_from_the_files(tmp_path: Path, damage: str) -> None:
    store = DiskStore(tmp_path, 3_000)
    for n in (0, 1):
        store.put(KEYS[n], value(n, 1000))
    store.close()
    ledger = tmp_path / "ledger.sqlite"
    ledger.unlink()
    if damage == "garbage":
        ledger.write_bytes(b"no database" * 1000)
    elif damage == "empty":
        sqlite3.connect(ledger).execute("CREATE TABLE other (x)").connection.close()
    again = DiskStore(tmp_path, 3_000)
    assert again.stats().entries == 2
    again.put(KEYS[2], value(2, 1000))
    again.put(KEYS[3], value(3, 1000))
    assert again.stats().nbytes == sum(file.stat().st_size for file in files_of(tmp_path)) == 3_000
    again.close()


def test_files_the_ledger_does_not_know_are_entered_when_they_are_asked_for(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, 3_000)
    for n in (0, 1):
        store.put(KEYS[n], value(n, 1000))
    store._ledger().remove(KEYS[:2])  # as a process that made room while they were written
    assert store.stats().entries == 0
    store.get_many(KEYS[:2])
    store.put(KEYS[2], value(2, 1000))
    assert store.stats().nbytes == sum(file.stat().st_size for file in files_of(tmp_path)) == 3_000


def test_a_value_that_had_to_leave_while_it_was_written_is_not_kept(tmp_path: Path) -> None:
    class Slow(DiskStore):
        def _write(self, file: Path, value: Value) -> None:
            for n in (1, 2):
                assert DiskStore(tmp_path, 1_000).put(KEYS[n], bytes(500), cost=10.0)
            super()._write(file, value)

    Slow(tmp_path, 1_000).put(KEYS[0], bytes(500))
    store = DiskStore(tmp_path, 1_000)
    assert sorted(store.keys()) == sorted(KEYS[1:3])
    assert store.stats().nbytes == sum(file.stat().st_size for file in files_of(tmp_path)) == 1_000


def test_files_beyond_a_smaller_bound_leave_at_the_next_put(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, 10_000)
    for n in range(10):
        store.put(KEYS[n], value(n, 1000))
    store.close()
    smaller = DiskStore(tmp_path, 2_500)
    smaller.put(KEYS[10], value(10, 1000))
    assert sum(file.stat().st_size for file in files_of(tmp_path)) == 2_000


def test_threads_write_and_read_at_once(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, 50_000)

    def turn(n: int) -> bool:
        store.put(KEYS[n % 20], value(n % 20, 5_000))
        found = store.get(KEYS[n % 20])
        return found is None or found == value(n % 20, 5_000)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(turn, range(120)))
    assert store.stats().nbytes == sum(file.stat().st_size for file in files_of(tmp_path)) <= 50_000


def test_a_key_too_long_for_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a key of 300 characters"):
        DiskStore(tmp_path, MANY).get("x" * 300)
