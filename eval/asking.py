"""One question to what is evaluated, and what came of it: the same value from the library and from a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from eval.trec import Scored
from rag.pipeline import Pipeline, trace
from rag.values import Query, Ranking, StageReport

Key = TypeVar("Key")
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Found:
    """A search's documents, best first, each by its best chunk; its wall time; what every stage did."""

    documents: tuple[Scored, ...]
    seconds: float
    reports: tuple[StageReport, ...]


Search = Callable[[Query, int], Found]
"""The k best chunks of a question as documents."""


def through_library(pipeline: Pipeline) -> Search:
    """Asks the pipeline in this process."""

    def search(query: Query, k: int) -> Found:
        started = time.perf_counter()
        ranking = pipeline.search(query, k)
        seconds = time.perf_counter() - started
        return Found(collapse(ranking), seconds, tuple(trace(ranking)))

    return search


def collapse(ranking: Ranking) -> tuple[Scored, ...]:
    """Each document once, with the score and at the place of its best chunk (max-P, Dai & Callan 2019)."""
    return best_of((hit.chunk.doc_id, hit.score) for hit in ranking)


def best_of(chunks: Iterable[tuple[str, float]]) -> tuple[Scored, ...]:
    """Each document of chunks, best first, at the place of its first."""
    best: dict[str, float] = {}
    for doc_id, score in chunks:
        best.setdefault(doc_id, score)
    return tuple(Scored(doc_id, score) for doc_id, score in best.items())


_KEPT = ("seconds", "n_in", "n_out", "tokens", "degraded", "passes", "decoded", "peak_mb", "cache_mode", "reused")
_DEFAULTS = {one.name: one.default for one in fields(StageReport)}


def report_row(report: StageReport) -> dict[str, Any]:
    """What is kept of a stage's report, its defaults left out."""
    said = {name: getattr(report, name) for name in _KEPT if getattr(report, name) != _DEFAULTS[name]}
    return {"stage": report.stage, **said}


def report_from(row: Mapping[str, Any]) -> StageReport:
    """The report of ``report_row``."""
    return StageReport(**row)


def in_parallel(work: Callable[[Key], Row], keys: Sequence[Key], jobs: int, done: Callable[[Key, Row], None]) -> None:
    """``work`` on every key, ``jobs`` at a time; ``done`` is told each result as it comes, in the calling thread.

    The first error is raised and what has not begun is left; what came before it has been handed over.
    """
    if jobs == 1:
        for key in keys:
            done(key, work(key))
        return
    with ThreadPoolExecutor(jobs) as pool:
        asked: dict[Future[Row], Key] = {pool.submit(work, key): key for key in keys}
        try:
            for future in as_completed(asked):
                done(asked[future], future.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
