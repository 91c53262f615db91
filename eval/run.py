"""Runs a pipeline over a test collection's queries: the same object that the CLI and the API answer with."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from eval.trec import Scored
from rag.pipeline import Pipeline, trace
from rag.values import Query, Ranking, StageReport


@dataclass(slots=True)
class Work:
    """Tokens a model computed, wrote, and found in the cache, and its forward passes: sums that grow by reports."""

    prefill_tokens: int = 0
    decoded_tokens: int = 0
    reused_tokens: int = 0
    forward_passes: int = 0

    def add(self, report: StageReport) -> None:
        self.prefill_tokens += report.tokens
        self.decoded_tokens += report.decoded
        self.reused_tokens += report.reused
        self.forward_passes += report.passes

    def means(self, queries: int) -> dict[str, float]:
        """By name, a query."""
        return {name: round(total / max(1, queries), 2) for name, total in asdict(self).items()}

    @property
    def cache_share(self) -> float:
        """Share of the tokens a model had to read that came from the cache, 0 where it read none."""
        read = self.prefill_tokens + self.reused_tokens
        return self.reused_tokens / read if read else 0.0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came of running the queries.

    run                query id to documents, best first, at most the depth
    seconds            time of each query that was asked, in the order asked, which is the run's
    stage_seconds      stage to its time in each query that it ran for
    work               what a model did in all queries together
    self_hits_removed  results that were the query's own document
    not_asked          queries without a visible character: they have no results and score 0
    """

    run: Mapping[str, tuple[Scored, ...]]
    seconds: Sequence[float]
    stage_seconds: Mapping[str, Sequence[float]]
    work: Work
    self_hits_removed: int
    not_asked: int

    @property
    def stages(self) -> dict[str, float]:
        """Stage to mean seconds a query that was asked."""
        return {stage: sum(seconds) / len(self.seconds) for stage, seconds in self.stage_seconds.items()}


def evaluate(
    pipeline: Pipeline,
    queries: Mapping[str, str],
    depth: int,
    *,
    fetch: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluated:
    """Each query asked once, by itself; chunks are collapsed to documents, self-hits taken out, then cut at ``depth``.

    fetch  chunks asked for, ``depth`` unless given: one more where a query's own document may be among them
    One search before the first makes models and indexes load outside of the measured time.
    """
    wanted = depth if fetch is None else fetch
    pipeline.search(Query("a first question, which is not counted"), wanted)
    run: dict[str, tuple[Scored, ...]] = {}
    seconds: list[float] = []
    stages: defaultdict[str, list[float]] = defaultdict(list)
    work = Work()
    removed = 0
    for done, (query_id, text) in enumerate(queries.items(), start=1):
        if text.strip():
            started = time.perf_counter()
            ranking = pipeline.search(Query(text, query_id), wanted)
            seconds.append(time.perf_counter() - started)
            for report in trace(ranking):
                stages[report.stage].append(report.seconds)
                work.add(report)
            documents = collapse(ranking)
            others = without_self(documents, query_id)
            removed += len(documents) - len(others)
            run[query_id] = others[:depth]
        progress(done)
    return Evaluated(run, seconds, stages, work, removed, len(queries) - len(seconds))


def collapse(ranking: Ranking) -> tuple[Scored, ...]:
    """Each document once, with the score and at the place of its best chunk (max-P, Dai & Callan 2019)."""
    best: dict[str, float] = {}
    for hit in ranking:
        best.setdefault(hit.chunk.doc_id, hit.score)
    return tuple(Scored(doc_id, score) for doc_id, score in best.items())


def without_self(documents: Sequence[Scored], query_id: str) -> tuple[Scored, ...]:
    """The documents but the one that bears the query's id, as in BEIR (ArguAna and Quora ask with their documents)."""
    return tuple(document for document in documents if document.doc_id != query_id)


def percentile(values: Iterable[float], share: float) -> float:
    """The least value that at least ``share`` of all values do not exceed (nearest rank); 0.0 where there is none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
