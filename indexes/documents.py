"""The SQLite store: documents, chunks, metadata, and the log of changes the other stores still have to follow.

It is the truth of a version: a chunk exists if and only if its row is here. Rows are numbered once and never
reused, so that Lucene and the vector files can name a chunk by its row.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexes.corpus import Chunk, Document, Metadata, Scalar
from indexes.errors import CollectionBusy, CollectionDamaged, DuplicateDocument, StorageFull
from indexes.filters import Filter

Rows = NDArray[np.int64]

_SCHEMA = """
CREATE TABLE document(row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL,
                      text TEXT NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE chunk(row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, doc INTEGER NOT NULL,
                   start INTEGER NOT NULL, end INTEGER NOT NULL, text TEXT);
CREATE INDEX chunk_of_doc ON chunk(doc);
CREATE TABLE attribute(name TEXT NOT NULL, value NOT NULL, doc INTEGER NOT NULL,
                       PRIMARY KEY(name, value, doc)) WITHOUT ROWID;
CREATE INDEX attribute_of_doc ON attribute(doc);
CREATE TABLE segment(first INTEGER PRIMARY KEY, length INTEGER NOT NULL, checksum TEXT NOT NULL);
CREATE TABLE dead(row INTEGER PRIMARY KEY, id TEXT NOT NULL, generation INTEGER NOT NULL);
CREATE TABLE state(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
"""
# chunk.text is NULL where the chunk is its whole document: the text is then stored once.
_CHUNK = """SELECT chunk.row, chunk.id, document.id, COALESCE(chunk.text, document.text), chunk.start, chunk.end,
            document.title FROM chunk JOIN document ON document.row = chunk.doc"""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of rows ``first .. first + length - 1`` whose vectors lie in one immutable file."""

    first: int
    length: int
    checksum: str


class _Connection:
    """One thread's connection; it closes when its thread or its store goes."""

    def __init__(self, path: Path, mode: str) -> None:
        where = f"{path.absolute().as_uri()}?mode={mode}"
        self.db = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
        self.close = weakref.finalize(self, self.db.close)
        with reading(path):
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")


class DocumentStore:
    """One SQLite file in WAL mode. Any thread may read; one writer at a time, kept apart by the caller's lock."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._mode = "rwc" if create else "rw"
        if create:
            with self.writing() as db:
                if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                    for statement in _SCHEMA.split(";\n"):
                        db.execute(statement)
        elif not path.is_file():
            raise CollectionDamaged(f"{path.name} is missing from {path.parent}; build the collection again")

    # --- connections ---

    @property
    def _db(self) -> sqlite3.Connection:
        """This thread's connection."""
        mine: _Connection | None = getattr(self._local, "connection", None)
        if mine is None:
            mine = _Connection(self.path, self._mode)
            self._local.connection = mine
            with self._lock:
                self._connections.add(mine)
        return mine.db

    def close(self) -> None:
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        self._local = threading.local()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: everything in it happens, or nothing does."""
        with reading(self.path):
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _all(self, sql: str, parameters: Sequence[Scalar] = ()) -> list[tuple[object, ...]]:
        with reading(self.path):
            return self._db.execute(sql, parameters).fetchall()

    # --- writing ---

    def insert(self, db: sqlite3.Connection, document: Document, chunks: Sequence[Chunk]) -> list[int]:
        """Rows of the chunks. Raises DuplicateDocument where the id is already stored."""
        metadata = json.dumps(dict(document.metadata), ensure_ascii=False)
        try:
            row = db.execute(
                "INSERT INTO document(id, title, text, metadata) VALUES (?, ?, ?, ?)",
                (document.id, document.title, document.text, metadata),
            ).lastrowid
        except sqlite3.IntegrityError as error:
            raise DuplicateDocument(
                f"document id {document.id!r} occurs twice; ids must be unique in a collection"
            ) from error
        assert row is not None
        db.executemany("INSERT OR IGNORE INTO attribute(name, value, doc) VALUES (?, ?, ?)", _attributes(document, row))
        rows = []
        for chunk in chunks:
            text = None if chunk.start == 0 and chunk.end == len(document.text) else chunk.text
            values = (chunk.id, row, chunk.start, chunk.end, text)
            inserted = db.execute(
                "INSERT INTO chunk(id, doc, start, end, text) VALUES (?, ?, ?, ?, ?)", values
            ).lastrowid
            assert inserted is not None
            rows.append(inserted)
        return rows

    def remove(self, db: sqlite3.Connection, doc_ids: Sequence[str], generation: int) -> list[str]:
        """The ids that were there. Their chunks' rows are noted as dead for the stores that follow."""
        removed = []
        for doc_id in doc_ids:
            found = db.execute("SELECT row FROM document WHERE id = ?", (doc_id,)).fetchone()
            if found is None:
                continue
            db.execute(
                "INSERT INTO dead(row, id, generation) SELECT row, id, ? FROM chunk WHERE doc = ?",
                (generation, found[0]),
            )
            db.execute("DELETE FROM chunk WHERE doc = ?", found)
            db.execute("DELETE FROM attribute WHERE doc = ?", found)
            db.execute("DELETE FROM document WHERE row = ?", found)
            removed.append(doc_id)
        return removed

    def add_segment(self, db: sqlite3.Connection, segment: Segment) -> None:
        db.execute("INSERT INTO segment VALUES (?, ?, ?)", (segment.first, segment.length, segment.checksum))

    def set_state(self, db: sqlite3.Connection, name: str, value: Scalar) -> None:
        db.execute(
            "INSERT INTO state VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    # --- reading ---

    def state(self, name: str, default: int = 0) -> int:
        rows = self._all("SELECT value FROM state WHERE name = ?", (name,))
        return int(str(rows[0][0])) if rows else default

    def segments(self) -> list[Segment]:
        rows = self._all("SELECT first, length, checksum FROM segment ORDER BY first")
        return [Segment(int(str(first)), int(str(length)), str(checksum)) for first, length, checksum in rows]

    def dead(self, *, since: int = -1) -> list[tuple[int, str]]:
        """Rows and ids of chunks deleted after generation ``since``."""
        rows = self._all("SELECT row, id FROM dead WHERE generation > ? ORDER BY row", (since,))
        return [(int(str(row)), str(chunk_id)) for row, chunk_id in rows]

    def counts(self) -> tuple[int, int]:
        """(documents, chunks)"""
        rows = self._all("SELECT (SELECT COUNT(*) FROM document), (SELECT COUNT(*) FROM chunk)")
        return int(str(rows[0][0])), int(str(rows[0][1]))

    def next_row(self) -> int:
        """The row the next chunk will get; only the one writer may rely on it."""
        rows = self._all("SELECT seq FROM sqlite_sequence WHERE name = 'chunk'")
        return int(str(rows[0][0])) + 1 if rows else 1

    def last_document(self) -> int:
        """The row of the document that was stored last, 0 where there never was one."""
        rows = self._all("SELECT seq FROM sqlite_sequence WHERE name = 'document'")
        return int(str(rows[0][0])) if rows else 0

    def documents_after(self, row: int, doc_ids: Sequence[str]) -> list[str]:
        """Those of the ids whose documents were stored after ``row``; at most 500 ids."""
        marks = ", ".join("?" * len(doc_ids))
        found = self._all(f"SELECT id FROM document WHERE row > ? AND id IN ({marks})", (row, *doc_ids))
        return [str(doc_id) for (doc_id,) in found]

    def chunks(self, rows: Iterable[int]) -> dict[int, Chunk]:
        """The chunks of those rows that exist."""
        wanted = list(rows)
        found: dict[int, Chunk] = {}
        for at in range(0, len(wanted), 500):
            part = wanted[at : at + 500]
            marks = ", ".join("?" * len(part))
            found.update(self._read_chunks(f"{_CHUNK} WHERE chunk.row IN ({marks})", part))
        return found

    def chunks_of(self, doc_ids: Iterable[str]) -> list[Chunk]:
        """All chunks of those documents that exist."""
        wanted, found = list(doc_ids), list[Chunk]()
        for at in range(0, len(wanted), 500):
            part = wanted[at : at + 500]
            marks = ", ".join("?" * len(part))
            rows = self._read_chunks(f"{_CHUNK} WHERE document.id IN ({marks}) ORDER BY chunk.row", part)
            found += [chunk for _, chunk in rows]
        return found

    def iterate_chunks(self, *, after: int = 0, size: int = 2048) -> Iterator[list[tuple[int, Chunk]]]:
        """All chunks with a row above ``after`` in batches by ascending row."""
        while batch := self._read_chunks(f"{_CHUNK} WHERE chunk.row > ? ORDER BY chunk.row LIMIT ?", (after, size)):
            yield batch
            after = batch[-1][0]

    def _read_chunks(self, sql: str, parameters: Sequence[int | str]) -> list[tuple[int, Chunk]]:
        with reading(self.path):
            rows = self._db.execute(sql, parameters).fetchall()
        return [(r[0], Chunk(r[1], r[2], r[3], r[4], r[5], r[6])) for r in rows]

    def matching(self, chosen: Filter) -> Rows:
        """Ascending rows of all chunks whose document matches."""
        rows = self._all(f"SELECT row FROM chunk WHERE doc IN ({chosen.sql}) ORDER BY row", chosen.parameters)
        return np.array([row[0] for row in rows], dtype=np.int64)

    def unknown(self, fields: Iterable[str]) -> tuple[str, ...]:
        """Those of the fields that no document has, in order."""
        known = "SELECT 1 FROM attribute WHERE name = ? LIMIT 1"
        return tuple(name for name in sorted(fields) if not self._all(known, (name,)))

    def document(self, doc_id: str) -> Document | None:
        rows = self._all("SELECT id, title, text, metadata FROM document WHERE id = ?", (doc_id,))
        return _document(rows[0]) if rows else None

    def list_documents(self, *, after: str = "", limit: int = 100) -> list[tuple[str, str, int]]:
        """(id, title, number of chunks) by ascending id, those after ``after``."""
        sql = """SELECT id, title, (SELECT COUNT(*) FROM chunk WHERE doc = document.row) FROM document
                 WHERE id > ? ORDER BY id LIMIT ?"""
        return [(str(a), str(b), int(str(c))) for a, b, c in self._all(sql, (after, limit))]

    def check(self) -> None:
        """SQLite's own structural check of the file. Raises CollectionDamaged."""
        found = self._all("PRAGMA quick_check")
        if found != [("ok",)]:
            raise CollectionDamaged(f"{self.path} is damaged ({found[0][0]}); build or import the collection again")

    def copy_to(self, path: Path) -> None:
        """A consistent copy in one file without WAL, whatever others write meanwhile."""
        with reading(self.path):
            self._db.execute("VACUUM INTO ?", (str(path),))

    def checkpoint(self) -> None:
        """Fold the WAL into the file, so that the file alone is whole."""
        self._all("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """SQLite's errors as Kvasir's."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):
            raise StorageFull(f"no room left on the disk of {path.parent}; free some and try again") from error
        if name.startswith("SQLITE_BUSY"):
            raise CollectionBusy(f"another process keeps {path} locked; wait for it or end it") from error
        raise CollectionDamaged(f"{path} cannot be used ({error}); build or import the collection again") from error


def _attributes(document: Document, row: int) -> Iterator[tuple[str, Scalar, int]]:
    for name, value in document.metadata.items():
        for element in value if isinstance(value, tuple) else (value,):
            yield name, _comparable(element), row


def _comparable(value: Scalar) -> Scalar:
    """As SQLite compares it: whole numbers beyond 64 bits as the nearest float."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return int(value) if isinstance(value, bool) else value


def _document(row: tuple[object, ...]) -> Document:
    raw: dict[str, Scalar | list[Scalar]] = json.loads(str(row[3]))
    metadata: Metadata = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return Document(str(row[0]), str(row[1]), str(row[2]), metadata)
