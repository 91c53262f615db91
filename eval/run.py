"""Runs a test collection's queries: through the same object that the CLI answers with, or through a server."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.asking import Search, in_parallel, report_from, report_row
from eval.kept_rows import KeptRows
from eval.trec import Scored
from rag.values import Query, StageReport

FIRST = Query("a first question, which is not counted")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What came of running the queries.

    run                query id to documents, best first, at most the depth
    seconds            time of each query that was asked, in the order of the run
    stage_seconds      stage to its time in each query that it ran for
    work               what a model did in all queries together
    self_hits_removed  results that were the query's own document
    not_asked          queries without a visible character: they have no results and score 0
    concurrency        how many queries were under way at a time, where rows of several runs came together several
    resumed            queries whose rows an earlier run left
    degraded           queries of which a stage gave less than was asked for
    """

    run: Mapping[str, tuple[Scored, ...]]
    seconds: Sequence[float]
    stage_seconds: Mapping[str, Sequence[float]]
    work: Work
    self_hits_removed: int
    not_asked: int
    concurrency: Sequence[int]
    resumed: int
    degraded: int

    @property
    def stages(self) -> dict[str, float]:
        """Stage to mean seconds a query that was asked."""
        return {stage: sum(seconds) / len(self.seconds) for stage, seconds in self.stage_seconds.items()}


def evaluate(
    search: Search,
    queries: Mapping[str, str],
    depth: int,
    *,
    fetch: int | None = None,
    jobs: int = 1,
    kept: KeptRows | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluated:
    """Each query asked once, ``jobs`` at a time; a query's own document is taken out, then it is cut at ``depth``.

    fetch  chunks asked for, ``depth`` unless given: one more where a query's own document may be among them
    kept   queries that have a row of their text there are not asked again, and every new row is kept as it comes
    One search before the first makes models and indexes load outside of the measured time.
    """
    wanted = depth if fetch is None else fetch
    rows = KeptRows(None, "") if kept is None else kept
    asked = [query_id for query_id, text in queries.items() if text.strip()]
    waiting = rows.waiting({query_id: queries[query_id] for query_id in asked})
    count = len(queries) - len(waiting)
    progress(count)

    def work(query_id: str) -> dict[str, Any]:
        return _row(search, Query(queries[query_id], query_id), wanted, depth, jobs)

    def done(query_id: str, row: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        rows.keep_asked(query_id, queries[query_id], row)
        progress(count)

    if waiting:
        search(FIRST, wanted)
        in_parallel(work, waiting, jobs, done)
    return _evaluated([(query_id, rows.rows[query_id]) for query_id in asked], len(queries), len(asked) - len(waiting))


def _row(search: Search, query: Query, wanted: int, depth: int, jobs: int) -> dict[str, Any]:
    """One query's row, as it is kept."""
    found = search(query, wanted)
    others = without_self(found.documents, query.id)
    return {
        "documents": [[document.doc_id, document.score] for document in others[:depth]],
        "self_hits": len(found.documents) - len(others),
        "seconds": found.seconds,
        "stages": [report_row(report) for report in found.reports],
        "jobs": jobs,
    }


def _evaluated(rows: Sequence[tuple[str, Mapping[str, Any]]], queries: int, resumed: int) -> Evaluated:
    stages: defaultdict[str, list[float]] = defaultdict(list)
    work, degraded = Work(), 0
    for _, row in rows:
        reports = [report_from(said) for said in row["stages"]]
        degraded += any(report.degraded for report in reports)
        for report in reports:
            stages[report.stage].append(report.seconds)
            work.add(report)
    return Evaluated(
        run={query_id: tuple(Scored(*document) for document in row["documents"]) for query_id, row in rows},
        seconds=[row["seconds"] for _, row in rows],
        stage_seconds=stages,
        work=work,
        self_hits_removed=sum(row["self_hits"] for _, row in rows),
        not_asked=queries - len(rows),
        concurrency=sorted({row["jobs"] for _, row in rows}),
        resumed=resumed,
        degraded=degraded,
    )


def without_self(documents: Sequence[Scored], query_id: str) -> tuple[Scored, ...]:
    """The documents but the one that bears the query's id, as in BEIR (ArguAna and Quora ask with their documents)."""
    return tuple(document for document in documents if document.doc_id != query_id)


def percentile(values: Iterable[float], share: float) -> float:
    """The least value that at least ``share`` of all values do not exceed (nearest rank); 0.0 where there is none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """``p50`` and ``p95`` in milliseconds."""
    return {name: round(1e3 * percentile(seconds, share), 3) for name, share in (("p50", 0.5), ("p95", 0.95))}
