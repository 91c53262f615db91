"""The tier on disk: one file a value, bounded in bytes, shared by processes, sound after a crash at any moment.

Files are read into memory of our own, not mapped: with the checksum that follows a mapping is about a tenth faster,
and a file that somebody else truncates would end the process with SIGBUS.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import count
from pathlib import Path
from threading import Lock
from urllib.parse import quote, unquote

from indexes.durable import write_atomic
from rag.errors import CacheUnavailable
from rag.kv.ledger import Ledger
from rag.kv.store import StoreStats, Tally, Value

_UNWRITTEN_USES = 256
"""Hits that are counted in memory before the ledger hears of them."""
_ABANDONED_SECONDS = 3600


class DiskStore:
    """Values as files under ``root``, at most ``capacity`` bytes of them; the least worthy leave first.

    A file appears whole, by a rename after fsync; what a killed process left half written is removed at the next
    start. Nothing is opened before the first call: a directory that cannot be written is a store that does not answer.
    """

    def __init__(self, root: Path, capacity: int) -> None:
        self.name, self.root, self.capacity = "files", root, capacity
        self._lock = Lock()
        self._opened: Ledger | None = None
        self._uses: Counter[str] = Counter()
        self._turn = count()
        self._tally = Tally()

    def get(self, key: str) -> Value | None:
        with self._reported("read"):
            value = self._tally.found(self._read(self._file(key)))
            if value is not None:
                self._use(key)
            return value

    def get_many(self, keys: Sequence[str]) -> list[Value | None]:
        return [self.get(key) for key in keys]

    def put(self, key: str, value: Value, cost: float = 1.0) -> bool:
        if len(value) > self.capacity:
            self._tally.refused += 1
            return False
        file = self._file(key)
        with self._reported("written"):
            if file.exists():
                return True
            ledger = self._ledger()
            self._settle(ledger)
            self._tally.evicted += ledger.reserve(key, len(value), cost, self.capacity, self._unlink)
            try:
                self._write(file, value)
            except OSError:
                ledger.remove([key])
                raise
            if key not in ledger:  # another process made room while this one wrote
                self._unlink(key)
            self._tally.puts += 1
            return True

    def delete(self, keys: Sequence[str]) -> int:
        with self._reported("deleted"):
            once = list(dict.fromkeys(keys))
            there = sum(self._file(key).is_file() for key in once)
            if there or self.root.exists():
                self._ledger().remove(once, self._unlink)
            return there

    def contains(self, key: str) -> bool:
        with self._reported("read"):
            return self._file(key).is_file()

    def generation(self) -> bytes:
        with self._reported("read"):
            try:
                return (self.root / "generation").read_bytes()
            except FileNotFoundError:
                return b""

    def outdate(self) -> None:
        """Makes the directory: another process may be about to store what it has just read."""
        with self._reported("written"):
            self.root.mkdir(parents=True, exist_ok=True)
            write_atomic(self.root / "generation", os.urandom(16))

    def keys(self, prefix: str = "") -> Iterator[str]:
        with self._reported("read"):
            return iter([key for key in self._held() if key.startswith(prefix)])

    def stats(self) -> StoreStats:
        with self._reported("counted"):
            entries, nbytes = self._ledger().totals()
        return self._tally.stats(self.name, entries, nbytes)

    def close(self) -> None:
        with self._lock:
            ledger, self._opened = self._opened, None
        if ledger is not None:
            with suppress(CacheUnavailable):
                self._settle(ledger)
            ledger.close()

    def _ledger(self) -> Ledger:
        """The ledger, opened at the first call."""
        with self._lock:
            if self._opened is None:
                self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
                (self.root / "unfinished").mkdir(exist_ok=True, mode=0o700)
                self._clear_unfinished()
                self._opened = Ledger(self.root / "ledger.sqlite", self._held)
            return self._opened

    def _file(self, key: str) -> Path:
        """Its file: one of 256 directories by hash. Raises ValueError for a key too long for a file name."""
        name = quote(key, safe="")
        if len(name) > 250:
            raise ValueError(f"a key of {len(key)} characters is no chunk's: {key[:40]!r}...")
        return self.root / blake2b(key.encode(), digest_size=1).hexdigest() / name

    def _unlink(self, key: str) -> None:
        self._file(key).unlink(missing_ok=True)

    def _read(self, file: Path) -> bytes | None:
        try:
            handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > self.capacity:
                return None
            value = os.read(handle, status.st_size)
            while len(value) < status.st_size and (more := os.read(handle, status.st_size - len(value))):
                value += more
            return value
        finally:
            os.close(handle)

    def _write(self, file: Path, value: Value) -> None:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        part = self.root / "unfinished" / f"{os.getpid()}-{time.time_ns()}-{next(self._turn)}"
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                rest = memoryview(value)
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            finally:
                os.close(handle)
            part.replace(file)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _use(self, key: str) -> None:
        with self._lock:
            self._uses[key] += 1
            due = self._uses.total() >= _UNWRITTEN_USES
        if due:
            with suppress(CacheUnavailable), self._reported("counted"):  # what was read is read
                self._settle(self._ledger())

    def _settle(self, ledger: Ledger) -> None:
        """Tells the ledger of the hits so far; files that it does not know are entered."""
        with self._lock:
            uses, self._uses = self._uses, Counter()
        if uses:
            for key in ledger.use(uses):
                with suppress(FileNotFoundError):
                    nbytes = self._file(key).stat().st_size
                    if nbytes > self.capacity:
                        self._unlink(key)
                    else:
                        self._tally.evicted += ledger.reserve(key, nbytes, 1.0, self.capacity, self._unlink)

    def _held(self) -> dict[str, int]:
        """All values that are there, with their bytes."""
        held = {}
        with suppress(FileNotFoundError):
            for shard in os.scandir(self.root):
                if re.fullmatch("[0-9a-f]{2}", shard.name):
                    for entry in os.scandir(shard):
                        with suppress(FileNotFoundError):
                            held[unquote(entry.name)] = entry.stat().st_size
        return held

    def _clear_unfinished(self) -> None:
        """Removes what processes that are gone have begun."""
        for part in (self.root / "unfinished").iterdir():
            with suppress(FileNotFoundError):
                old = time.time() - part.stat().st_mtime > _ABANDONED_SECONDS
                pid = part.name.partition("-")[0]
                if old or not (pid.isdecimal() and _alive(int(pid))):
                    part.unlink()

    @contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._tally.failed(f"{error.strerror or error}")
            raise CacheUnavailable(f"a file of the chunk cache cannot be {what} ({error})") from error
        except CacheUnavailable as error:
            self._tally.failed(str(error))
            raise


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
