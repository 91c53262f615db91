"""A BEIR folder small enough to judge by eye, and a pipeline that answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rag.entry import Entries
from rag.pipeline import Pipeline
from rag.protocols import Generator, Retriever
from rag.selection.budget import BudgetFill
from rag.values import Answer, Chunk, Context, Hit, Query, Ranking, ScoreKind, StageReport

DOCUMENTS = {
    "cat": ("Cats", "A cat sleeps on the warm sofa and purrs."),
    "dog": ("Dogs", "The dog barks at the postman every morning."),
    "fish": ("Fish", "Salmon swim up the river to spawn."),
    "moon": ("The Moon", "The moon orbits the earth once a month."),
    "bread": ("", "Bread is baked from flour, water and yeast."),
}
QUERIES = {"q1": "What does a cat do on the sofa?", "q2": "Why does the dog bark?", "moon": "the moon orbits the earth"}
QRELS = [("q1", "cat", 1), ("q2", "dog", 1), ("moon", "fish", 1)]


def write_beir(folder: Path) -> Path:
    """The folder, filled with the documents and queries above. The query ``moon`` is also a document."""
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": key, "title": title, "text": text} for key, (title, text) in DOCUMENTS.items()]
    (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    asked = [{"_id": key, "text": text} for key, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in asked))
    judged = "".join(f"{query}\t{doc}\t{grade}\n" for query, doc, grade in QRELS)
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder


@pytest.fixture
def beir_folder(tmp_path: Path) -> Path:
    return write_beir(tmp_path / "tiny")


@dataclass(frozen=True)
class Canned(Retriever):
    """Gives prepared hits, (document, ordinal, score) by query text; notes what was asked for."""

    answers: Mapping[str, Sequence[tuple[str, int, float]]]
    asked: list[tuple[str, int]] = field(default_factory=list)

    def retrieve(self, query: Query, k: int) -> Ranking:
        self.asked.append((query.text, k))
        found = sorted(self.answers.get(query.text, ()), key=lambda hit: -hit[2])[:k]
        hits = tuple(Hit(Chunk(f"{doc}#{ordinal}", doc, "text", 0, 4), score) for doc, ordinal, score in found)
        return Ranking(hits, ScoreKind.BM25, StageReport("canned", 0.25, n_out=len(hits)))


class Words:
    """Counts words."""

    name = "words"

    def __call__(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


class Silent(Generator):
    """Is never asked: evaluation searches only."""

    def stream(self, query: Query, context: Context) -> Iterator[str | Answer]:
        raise NotImplementedError


def canned_pipeline(answers: Mapping[str, Sequence[tuple[str, int, float]]]) -> tuple[Pipeline, Canned]:
    retriever = Canned(answers)
    selector = BudgetFill(Entries(Words()), "score")
    return Pipeline(name="canned", retriever=retriever, selector=selector, generator=Silent()), retriever
