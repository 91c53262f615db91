"""Chooses and runs the benchmarks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.beir import load_dataset
from eval.bench.figures import Figure, Figures
from eval.indexing import index
from eval.machine import commit, hardware
from rag.assemble import Engine
from rag.config import Settings
from rag.errors import InvalidInput

NAMES = ("bm25", "dense", "build", "http", "start", "rerank", "cache", "select")
LONG = ("serve", "soak")
"""Those that run for minutes, only where they are named."""
MODELS = ("rerank", "cache", "select")
"""Those that need a language model's shape and no collection."""
QUERIES = 100
"""Queries that a benchmark of searches asks."""
DATA = "KVASIR_TEST_DATA"
NO_DATA = f"name a BEIR folder with --data, or set {DATA} to the folder that holds scifact/"
DEMO = "python-docs"
_SEARCHED = {"bm25", "dense", "http", *LONG}
"""Those that ask a collection."""


def run_suite(
    settings: Settings,
    names: Sequence[str],
    *,
    data: Path | None,
    collection: str | None,
    sample: int = 1000,
    repeats: int = 5,
    shape: str = "small",
    minutes: float = 10.0,
) -> Figures:
    """The figures of the named benchmarks, where none is named of all but the long ones.

    Raises InvalidInput for an unknown name.
    """
    chosen = [name for name in NAMES if not names or name in names] + [name for name in LONG if name in names]
    if unknown := sorted(set(names) - {*NAMES, *LONG}):
        raise InvalidInput(f"no benchmark {unknown[0]!r}; choose of: {', '.join((*NAMES, *LONG))}")
    figures: list[Figure] = []
    if others := [name for name in chosen if name not in MODELS]:
        engine = Engine(settings)
        subject = _subject(engine, data, collection, searched=bool(set(chosen) & _SEARCHED))
        figures += [figure for name in others for figure in _run(name, engine, subject, sample, repeats, minutes)]
    if "rerank" in chosen:
        from eval.bench.reranking import reranking

        figures += reranking(shape, repeats)
    if "cache" in chosen:
        from eval.bench.caching import caching

        figures += caching(shape, repeats)
    if "select" in chosen:
        from eval.bench.selecting import selecting

        figures += selecting(shape, repeats)
    return Figures(figures=figures, commit=commit(), hardware=hardware())


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a collection and questions for it, and the BEIR folder it was made from where there is one."""

    collection: str
    queries: Sequence[str]
    folder: Path | None


def _subject(engine: Engine, data: Path | None, collection: str | None, *, searched: bool) -> Subject:
    """A BEIR folder's where one is given or known, else the demo collection with its own titles as questions."""
    folder = data or (Path(os.environ[DATA]) / "scifact" if os.environ.get(DATA) else None)
    if folder is not None:
        dataset = load_dataset(str(folder.expanduser().absolute()), "test", store=engine.home.root / "datasets")
        name = index(engine, dataset, collection).name if searched else ""
        return Subject(name, list(dataset.queries.values())[:QUERIES], dataset.path)
    if not searched:
        return Subject("", (), None)
    demo = collection or DEMO
    if demo not in engine.home.names():
        raise InvalidInput(f"no data to measure with; {NO_DATA}, or make the demo collection with: kvasir demo")
    documents = engine.collection(demo).snapshot().store.list_documents(limit=QUERIES)
    return Subject(demo, [title or name for name, title, _ in documents], None)


def _run(name: str, engine: Engine, subject: Subject, sample: int, repeats: int, minutes: float) -> Iterator[Figure]:
    from eval.bench import building, searches, service, serving, soak
    from rag.retrieval.bm25 import Bm25

    if name == "bm25":
        return searches.bm25(Bm25(engine.collection(subject.collection)), subject.queries, repeats)
    if name == "dense":
        snapshot = engine.collection(subject.collection).snapshot()
        return searches.dense(snapshot, engine.encoder, subject.queries, repeats)
    if name == "build":
        if subject.folder is None:
            raise InvalidInput(f"no texts to build from; {NO_DATA}, or leave out 'build'")
        return building.building(subject.folder, engine.encoder, sample)
    if name == "http":
        return service.http(engine, subject.collection, subject.queries, repeats)
    if name == "serve":
        return serving.held_load(engine, subject.collection, subject.queries, float(repeats))
    if name == "soak":
        return soak.soak(engine, subject.collection, subject.queries, 60 * minutes)
    return service.start(engine.home.root, min(3, repeats))
