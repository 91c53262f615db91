"""What a directory of values holds, and what each is worth: one SQLite file that processes share."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from rag.errors import CacheUnavailable
from rag.kv.eviction import priority

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
  key TEXT PRIMARY KEY, nbytes INTEGER NOT NULL, cost REAL NOT NULL, uses INTEGER NOT NULL, priority REAL NOT NULL,
  turn INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS least ON entries (priority, turn);
CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY CHECK (one = 1), now REAL NOT NULL);
INSERT OR IGNORE INTO clock VALUES (1, 0.0);
"""


class Ledger:
    """Names with sizes, costs and uses. Every change is one transaction; all processes see the same bound.

    A file that cannot be read as a ledger is replaced by one of what ``held`` finds, each used once.
    """

    def __init__(self, path: Path, held: Callable[[], Mapping[str, int]]) -> None:
        self._path, self._lock = path, Lock()
        with _reported():
            try:
                self._db = self._open(held)
            except sqlite3.OperationalError:  # locked, or no room: the file may be sound
                raise
            except sqlite3.DatabaseError:
                for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                    path.with_name(name).unlink(missing_ok=True)
                self._db = self._open(held)

    def _open(self, held: Callable[[], Mapping[str, int]]) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            fresh = not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone()
            db.executescript(_SCHEMA)
            db.execute("SELECT count(*), total(nbytes) FROM entries NOT INDEXED").fetchone()
            if fresh:
                rows = ((key, nbytes, priority(0.0, 1, 1.0, nbytes), time.time_ns()) for key, nbytes in held().items())
                db.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?, 1.0, 1, ?, ?)", rows)
        except BaseException:
            db.close()
            raise
        return db

    def reserve(self, key: str, nbytes: int, cost: float, capacity: int, leave: Callable[[str], None]) -> int:
        """Enters the key. How many left for it: each is struck out and handed to ``leave`` in the same transaction.

        ``nbytes`` is at most ``capacity``.
        """
        with self._change() as db:
            (used,) = db.execute("SELECT total(nbytes) FROM entries WHERE key != ?", (key,)).fetchone()
            left = 0
            while used + nbytes > capacity:
                name, size, worth = db.execute(
                    "SELECT key, nbytes, priority FROM entries WHERE key != ? ORDER BY priority, turn LIMIT 1", (key,)
                ).fetchone()
                db.execute("DELETE FROM entries WHERE key = ?", (name,))
                db.execute("UPDATE clock SET now = max(now, ?)", (worth,))
                leave(name)
                left += 1
                used -= size
            (now,) = db.execute("SELECT now FROM clock").fetchone()
            db.execute(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, 1, ?, ?)",
                (key, nbytes, cost, priority(now, 1, cost, nbytes), time.time_ns()),
            )
        return left

    def use(self, uses: Mapping[str, int]) -> list[str]:
        """Adds uses; the names that are not in the ledger come back."""
        unknown = []
        with self._change() as db:
            (now,) = db.execute("SELECT now FROM clock").fetchone()
            for key, count in uses.items():
                row = db.execute("SELECT nbytes, cost, uses FROM entries WHERE key = ?", (key,)).fetchone()
                if row is None:
                    unknown.append(key)
                    continue
                nbytes, cost, before = row
                worth = priority(now, before + count, cost, nbytes)
                db.execute(
                    "UPDATE entries SET uses = ?, priority = ?, turn = ? WHERE key = ?",
                    (before + count, worth, time.time_ns(), key),
                )
        return unknown

    def remove(self, keys: Sequence[str], leave: Callable[[str], None] = lambda _: None) -> None:
        with self._change() as db:
            for key in keys:
                leave(key)
            db.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in keys))

    def __contains__(self, key: str) -> bool:
        with self._lock, _reported():
            return self._db.execute("SELECT 1 FROM entries WHERE key = ?", (key,)).fetchone() is not None

    def totals(self) -> tuple[int, int]:
        """Entries and bytes."""
        with self._lock, _reported():
            count, nbytes = self._db.execute("SELECT count(*), total(nbytes) FROM entries").fetchone()
            return count, int(nbytes)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _reported():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise CacheUnavailable(f"the ledger of the chunk cache cannot be used ({error})") from error
