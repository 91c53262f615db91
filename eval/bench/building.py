"""Building a collection beside the bare encoding of its texts."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from eval.bench.figures import Figure
from eval.bench.timing import seconds
from indexes.build import BuildSettings, build
from indexes.chunking import Chunking
from indexes.corpus import Document
from indexes.home import Home
from indexes.readers.beir import Beir
from indexes.readers.source import Report
from rag.encoders import SentenceEncoder

MOST = 1.2


class Head:
    """The first documents of a source; 0 means all."""

    def __init__(self, source: Beir, size: int) -> None:
        self.source = source
        self.size = size

    @property
    def name(self) -> str:
        return f"{self.source.name} ({self.size or 'all'})"

    def fingerprint(self) -> str:
        return f"{self.source.fingerprint()} {self.size}"

    def count(self) -> int | None:
        return self.size or self.source.count()

    def documents(self, skipped: Report) -> Iterator[Document]:
        return itertools.islice(self.source.documents(skipped), self.size or None)


def building(folder: Path, encoder: SentenceEncoder, sample: int) -> Iterator[Figure]:
    """Lucene, vectors and SQLite together beside ``encode_passages`` of the same texts, before and after the build.

    Both use the encoder as configured: its fastest setting where none was chosen.
    """
    source = Head(Beir(folder), sample)
    texts = [f"{document.title} {document.text}".strip() for document in source.documents(lambda skipped: None)]
    encoder.encode_passages(texts[:8])
    bare = [seconds(lambda: encoder.encode_passages(texts))]
    with tempfile.TemporaryDirectory() as scratch:
        settings = BuildSettings(chunking=Chunking("whole"))
        mine = seconds(lambda: build(Home(Path(scratch)), "bench", source, encoder, settings))
    bare.append(seconds(lambda: encoder.encode_passages(texts)))
    yield Figure(
        name="build",
        measured=mine,
        baseline=statistics.mean(bare),
        beside="encoding alone, mean of before and after",
        unit="s",
        target=MOST,
        note=f"{len(texts)} documents",
    )
