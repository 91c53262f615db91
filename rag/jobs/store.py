"""Jobs on the disk: one SQLite file in WAL mode a home directory, shared by all processes that serve it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from indexes.documents import reading
from indexes.readers.source import Skipped
from rag.errors import InvalidInput, KvasirError, Overloaded
from rag.jobs.record import OVER, Job, State

FILE = "jobs.sqlite"
MAX_LOG = 100_000
"""Skipped things remembered of one job; the rest is counted."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job(id TEXT PRIMARY KEY, state TEXT NOT NULL, cancel INTEGER NOT NULL DEFAULT 0,
    token TEXT UNIQUE, digest TEXT NOT NULL, finished REAL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_by_state ON job(state, id);
CREATE TABLE IF NOT EXISTS skipped(job TEXT NOT NULL, n INTEGER NOT NULL, place TEXT NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY(job, n)) WITHOUT ROWID;
"""
_decoder = msgspec.json.Decoder(Job)


class JobNotFound(KvasirError):
    """No job of that id."""


class TokenTaken(InvalidInput):
    """An idempotency key that came with another request before."""


class JobStore:
    """Any thread and process may use it; every call is one transaction."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        with reading(directory / FILE):
            self._db = sqlite3.connect(
                directory / FILE, isolation_level=None, check_same_thread=False, timeout=30, cached_statements=64
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        with self._lock, reading(self.directory / FILE):
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, reading(self.directory / FILE):
            return self._db.execute(sql, parameters).fetchall()

    # --- jobs ---

    def add(self, job: Job, *, digest: str, token: str = "", most: int = 1_000_000) -> Job:
        """Take the job on, or give back the one that the same request made before.

        digest  of everything that was asked for;  token  the request's idempotency key, "" for none
        Raises TokenTaken for a token of another request, Overloaded where ``most`` jobs wait already.
        """
        with self._held() as db:
            if token:
                found = db.execute("SELECT digest, body FROM job WHERE token = ?", (token,)).fetchone()
                if found is not None and found[0] != digest:
                    raise TokenTaken("this Idempotency-Key came with another request before; take a new key")
                if found is not None:
                    return _decoder.decode(found[1])
            _check_room(db, most)
            db.execute(
                "INSERT INTO job(id, state, token, digest, body) VALUES (?, ?, ?, ?, ?)",
                (job.id, job.state, token or None, digest, msgspec.json.encode(job)),
            )
        return job

    def check_room(self, *, token: str = "", most: int) -> None:
        """Raises Overloaded where ``add`` would: before a long upload, for a request that was not taken before."""
        if not (token and self._all("SELECT id FROM job WHERE token = ?", (token,))):
            with self._held() as db:
                _check_room(db, most)

    def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        rows = self._all("SELECT body FROM job WHERE id = ?", (job_id,))
        if not rows:
            raise JobNotFound(f"no job {job_id[:80]!r}; GET /v1/jobs lists those there are")
        return _decoder.decode(rows[0][0])

    def update(self, job_id: str, **changes: Any) -> Job:
        """The job with these fields changed. Raises JobNotFound."""
        with self._held() as db:
            found = db.execute("SELECT body FROM job WHERE id = ?", (job_id,)).fetchone()
            if found is None:
                raise JobNotFound(f"no job {job_id[:80]!r}")
            before = _decoder.decode(found[0])
            job = msgspec.structs.replace(before, revision=before.revision + 1, **changes)
            values = (job.state, job.finished, msgspec.json.encode(job), job_id)
            db.execute("UPDATE job SET state = ?, finished = ?, body = ? WHERE id = ?", values)
        return job

    def newest(self, *, before: str = "", limit: int = 100) -> list[Job]:
        """Jobs by descending id, those below ``before``."""
        rows = self._all("SELECT body FROM job WHERE id < ? ORDER BY id DESC LIMIT ?", (before or "\U0010ffff", limit))
        return [_decoder.decode(row[0]) for row in rows]

    def unfinished(self) -> list[Job]:
        """Those that wait or run, the oldest first."""
        rows = self._all("SELECT body FROM job WHERE state IN ('running', 'queued') ORDER BY id")
        return [_decoder.decode(row[0]) for row in rows]

    def over(self, job_id: str) -> bool:
        """True for a job that is known and over."""
        rows = self._all("SELECT body FROM job WHERE id = ?", (job_id,))
        return bool(rows) and _decoder.decode(rows[0][0]).over

    def counts(self) -> dict[State, int]:
        rows = self._all("SELECT state, COUNT(*) FROM job GROUP BY state")
        return dict(rows)

    # --- cancelling ---

    def cancel(self, job_id: str) -> Job:
        """Have the job stopped; one that waits is over at once, one that is over stays what it is."""
        with self._held() as db:
            found = db.execute("SELECT body FROM job WHERE id = ?", (job_id,)).fetchone()
            if found is None:
                raise JobNotFound(f"no job {job_id[:80]!r}; GET /v1/jobs lists those there are")
            job = _decoder.decode(found[0])
            if not job.over:
                db.execute("UPDATE job SET cancel = 1 WHERE id = ?", (job_id,))
        if job.state == "queued":
            return self.update(job_id, state="cancelled", finished=time.time())
        return job

    def cancelled(self, job_id: str) -> bool:
        rows = self._all("SELECT cancel FROM job WHERE id = ?", (job_id,))
        return not rows or bool(rows[0][0])

    # --- the log of what was skipped ---

    def log(self, job_id: str, skipped: Sequence[Skipped], first: int) -> None:
        """Things number ``first`` and following that could not be taken in."""
        rows = [(job_id, first + at, one.where[:1000], one.why[:1000]) for at, one in enumerate(skipped)]
        with self._held() as db:
            db.executemany(
                "INSERT OR REPLACE INTO skipped(job, n, place, why) VALUES (?, ?, ?, ?)",
                [row for row in rows if row[1] < MAX_LOG],
            )

    def clear_log(self, job_id: str) -> None:
        with self._held() as db:
            db.execute("DELETE FROM skipped WHERE job = ?", (job_id,))

    def skipped(self, job_id: str, *, after: int = -1, limit: int = 100) -> list[tuple[int, Skipped]]:
        """Numbered from 0, those above ``after``."""
        rows = self._all(
            "SELECT n, place, why FROM skipped WHERE job = ? AND n > ? ORDER BY n LIMIT ?", (job_id, after, limit)
        )
        return [(n, Skipped(place, why)) for n, place, why in rows]

    # --- keeping it small ---

    def prune(self, *, older: float, keep: int) -> list[str]:
        """Forget jobs that were over before ``older``, and all but the ``keep`` newest of them; their ids."""
        with self._held() as db:
            sql = "SELECT id, finished FROM job WHERE state IN (?, ?, ?) ORDER BY id DESC"
            rows = db.execute(sql, OVER).fetchall()
            gone = [row[0] for at, row in enumerate(rows) if at >= keep or (row[1] or 0) < older]
            db.executemany("DELETE FROM job WHERE id = ?", [(job_id,) for job_id in gone])
            db.executemany("DELETE FROM skipped WHERE job = ?", [(job_id,) for job_id in gone])
        return gone


def _check_room(db: sqlite3.Connection, most: int) -> None:
    waiting = db.execute("SELECT COUNT(*) FROM job WHERE state IN ('queued', 'running')").fetchone()[0]
    if waiting >= most:
        raise Overloaded(f"{waiting} jobs wait or run; try again when some are done", retry_after=30)
