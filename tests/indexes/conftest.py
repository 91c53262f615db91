"""Small real collections: Lucene, FAISS and SQLite on the disk, vectors from hashed words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from indexes.build import BuildSettings, Built, build
from indexes.chunking import Chunking
from indexes.collection import Collection
from indexes.corpus import Document
from indexes.home import Home
from indexes.snapshot import Found
from indexes.vectors import VectorSettings
from tests.fakes import HashingEncoder, ListSource

ROOT = Path(__file__).parents[2]
VOCABULARY = [f"{a}{b}{c}" for a in "bdkmpt" for b in "aiou" for c in "bdgmnr"]


def documents(n: int, *, seed: int = 0, first: int = 0, words: int = 8) -> list[Document]:
    """Documents ``d0000`` and so on of random words, frequent ones first; ``n`` and ``parity`` as metadata."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(first, first + n):
        chosen = np.minimum(rng.zipf(1.3, words), len(VOCABULARY)) - 1
        text = " ".join(VOCABULARY[j] for j in chosen)
        made.append(Document(f"d{i:04d}", "", text, {"n": i, "parity": ("even", "odd")[i % 2]}))
    return made


def dense(collection: Collection, text: str, k: int, encoder: HashingEncoder | None = None) -> Found:
    return collection.snapshot().search_dense((encoder or HashingEncoder()).encode_query(text), k)


def everywhere(collection: Collection) -> tuple[set[str], set[str], set[str]]:
    """The documents that SQLite, BM25 and dense search know; documents without a chunk aside.

    BM25 is asked for every word there is, dense search for more than there is.
    """
    snapshot = collection.snapshot()
    stored = {doc_id for doc_id, _, chunks in snapshot.store.list_documents(limit=10**9) if chunks}
    words = " ".join(dict.fromkeys([*VOCABULARY, "hello", "world"]))
    found = snapshot.search_sparse(words, 10**6), dense(collection, "hello", 10**6)
    for hits in found:
        rows = [row for row, _, _ in hits]
        assert len(rows) == len(set(rows)), "no chunk twice"
    sparse, near = ({chunk.doc_id for _, chunk, _ in hits} for hits in found)
    return stored, sparse, near


@dataclass(frozen=True, slots=True)
class Shelf:
    """A home directory to build in."""

    home: Home
    encoder: HashingEncoder = field(default_factory=HashingEncoder)

    def build(
        self, name: str, contents: Sequence[Document], vectors: VectorSettings | None = None, stamp: str = ""
    ) -> Built:
        settings = BuildSettings(
            chunking=Chunking("sentences", 32, 4), vectors=vectors or VectorSettings(kind="exact"), duplicates="skip"
        )
        return build(self.home, name, ListSource(contents, stamp), self.encoder, settings)

    def open(self, reference: str) -> Collection:
        return Collection(self.home, reference)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(Home(tmp_path / "home"))


@pytest.fixture(scope="module")
def shared_shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """For tests that only read what they built under a name of their own."""
    return Shelf(Home(tmp_path_factory.mktemp("home")))


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the program in ``test_crashes`` in another process; what it prints can be read line by line."""

    def run(*arguments: object, prefix: Sequence[str] = (), stdin: bool = False) -> subprocess.Popen[str]:
        command = [*prefix, sys.executable, "-m", "tests.indexes.test_crashes", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        source = subprocess.PIPE if stdin else subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=source, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    started: list[subprocess.Popen[str]] = []
    yield run
    for process in started:
        process.kill()
        process.communicate()
