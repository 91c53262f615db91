"""Reranks given candidate lists, the runs of other systems, and compares both orders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eval.beir import fullest, read_folder, read_lines
from eval.commands import shown, writable, write_result
from eval.machine import command, commit, hardware, peak_memory_mb, versions
from eval.measures import Scores, parse_measures
from eval.measures import score as measured
from eval.run import Work, percentiles
from eval.systems import result
from eval.trec import Qrels, Run, Scored, format_run, parse_run
from indexes.durable import write_atomic
from indexes.readers.beir import Beir
from rag.assemble import Engine
from rag.errors import InvalidInput
from rag.protocols import Reranker
from rag.reranking.given import Passage, as_given, place_of
from rag.runtime.meter import Limits
from rag.values import Query, StageReport

NONE = "none"


@dataclass(frozen=True, slots=True)
class Lists:
    """Candidate lists with their texts.

    queries  query id to text, of the lists;  given  query id to candidates, best first;  passages  by document id
    qrels    judgements of the queries that are scored
    """

    name: str
    queries: Mapping[str, str]
    given: Run
    passages: Mapping[str, Passage]
    qrels: Qrels


@dataclass(frozen=True, slots=True)
class Reranked:
    """What came of it: the new lists, and of each query its time in seconds and the reranker's report."""

    run: Run
    seconds: Sequence[float]
    reports: Sequence[StageReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankReport:
    """One reranker over one run."""

    lists: Lists
    run: str
    reranker: str
    model: str
    depth: int
    before: Scores
    after: Scores
    reranked: Reranked

    def as_json(self) -> dict[str, Any]:
        """Plain values; times in milliseconds a query."""
        reports, seconds = self.reranked.reports, self.reranked.seconds
        return {
            "dataset": self.lists.name,
            "run": self.run,
            "reranker": self.reranker,
            "model": self.model,
            "depth": self.depth,
            "queries": len(seconds),
            "judged_queries": len(self.lists.qrels),
            "metrics": {"given": dict(self.before.values), "reranked": dict(self.after.values)},
            "latency_ms": percentiles(seconds),
            "stages_latency_ms": {stage: percentiles(times) for stage, times in self._stages().items()},
            "cache_share": round(self._cache_share(), 4),
            "forward_passes": _mean_and_total([report.passes for report in reports]),
            "prefill_tokens": _mean_and_total([report.tokens for report in reports]),
            "decoded_tokens": _mean_and_total([report.decoded for report in reports]),
            "reused_tokens": _mean_and_total([report.reused for report in reports]),
            "cache_mode": next((report.cache_mode for report in reports if report.cache_mode), ""),
            "recomputed_share": round(sum(report.recomputed for report in reports) / max(1, len(reports)), 4),
            "peak_mb": max((report.peak_mb for report in reports), default=0.0),
            "degraded_share": sum(bool(report.degraded) for report in reports) / max(1, len(reports)),
            "peak_memory_mb": peak_memory_mb(),
            "commit": commit(),
            "command": command(),
            "versions": versions(),
            "hardware": hardware(),
            "notes": self.notes(),
        }

    def result(self) -> dict[str, Any]:
        """The content of a result file: the new order's."""
        said = self.as_json()
        work = {
            name: said[name]["mean"] for name in ("prefill_tokens", "decoded_tokens", "reused_tokens", "forward_passes")
        }
        summary = said | {
            "pipeline": " ".join(filter(None, (self.reranker, self.model))),
            "metrics": dict(self.after.values),
            "stages_ms": {stage: round(1e3 * sum(times) / len(times), 3) for stage, times in self._stages().items()},
            "work": work,
        }
        return result(
            summary,
            run=self.reranked.run,
            queries=self.lists.queries,
            qrels=self.lists.qrels,
            scores=self.after,
            seconds=dict(zip(self.reranked.run, self.reranked.seconds, strict=True)),
        )

    def _stages(self) -> dict[str, list[float]]:
        """Stage to its seconds in each query."""
        stages: dict[str, list[float]] = {}
        for report in self.reranked.reports:
            stages.setdefault(report.stage, []).append(report.seconds)
        return stages

    def _cache_share(self) -> float:
        """Share of the tokens that the model had to read that came from the cache, 0 where it read none."""
        work = Work()
        for report in self.reranked.reports:
            work.add(report)
        return work.cache_share

    def notes(self) -> list[str]:
        """Everything that a reader of the figures has to know."""
        said = [
            f"the {self.depth} best of each list were reranked; those below kept their order behind them",
            "candidates of equal score stand as in the run's file; trec_eval would sort them by document id",
        ]
        if missing := len(self.lists.qrels) - len(self.lists.given.keys() & self.lists.qrels.keys()):
            said.append(f"{missing} judged queries have no list and score 0")
        if self.model == "lexical":
            said.append("lexical is a stand-in that compares words: these are not figures of a language model")
        if mode := next((report.cache_mode for report in self.reranked.reports if report.cache_mode), ""):
            said.append(f"states of passages were reused from the cache in mode {mode}")
        if why := next((report.degraded for report in self.reranked.reports if report.degraded), ""):
            said.append(f"degraded, for example: {why}")
        return said


def load_lists(folder: Path, run: Path, *, split: str = "test", qrels: Path | None = None, limit: int = 0) -> Lists:
    """The run's lists with queries and texts from a BEIR or pool folder. Equal scores stay in the order of the file.

    qrels  judgements instead of the folder's: its qrels.full.txt, or those of the split
    limit  take the first so many judged queries of the run only, 0 takes all
    Raises SourceError, InvalidInput: for lists without a query's or document's text, too.
    """
    dataset = read_folder(folder, split, qrels or fullest(folder))
    judged = dataset.qrels
    given = parse_run(read_lines(run), str(run), ties_as_listed=True)
    wanted = [query_id for query_id in judged if query_id in given and query_id in dataset.queries]
    if not wanted:
        raise InvalidInput(f"no query of {run} is judged and has a text in {folder}; do they belong to the same set?")
    if limit:
        wanted = wanted[:limit]
        judged = {query_id: judged[query_id] for query_id in wanted}
    lists = {query_id: given[query_id] for query_id in wanted}
    passages = _passages(folder, {document.doc_id for documents in lists.values() for document in documents})
    queries = {query_id: dataset.queries[query_id] for query_id in wanted}
    return Lists(folder.resolve().name, queries, lists, passages, judged)


def _passages(folder: Path, wanted: Iterable[str]) -> dict[str, Passage]:
    missing = set(wanted)
    found: dict[str, Passage] = {}
    for document in Beir(folder).documents(lambda skipped: None):
        if document.id in missing:
            found[document.id] = Passage(document.text, document.title, document.id)
            missing.discard(document.id)
    if missing:
        raise InvalidInput(
            f"{len(missing)} documents of the run are not in {folder}, for example {min(missing)!r}; "
            "take a folder with the texts of all candidates"
        )
    return found


def rerank_lists(
    reranker: Reranker | None, lists: Lists, progress: Callable[[int], None] = lambda done: None
) -> Reranked:
    """Every list reranked by itself, once; None leaves it as it is.

    Two short passages are reranked first, so that models load outside of the measured time.
    """
    if reranker is not None:
        reranker.rerank(Query("a first question"), as_given([Passage("one passage"), Passage("another passage")]))
    run: dict[str, tuple[Scored, ...]] = {}
    seconds, reports = [], []
    for done, (query_id, documents) in enumerate(lists.given.items(), start=1):
        given = as_given([lists.passages[document.doc_id] for document in documents], ranked=True)
        started = time.perf_counter()
        ranking = given if reranker is None else reranker.rerank(Query(lists.queries[query_id], query_id), given)
        seconds.append(time.perf_counter() - started)
        reports.append(ranking.report)
        run[query_id] = tuple(Scored(documents[place_of(hit)].doc_id, hit.score) for hit in ranking)
        progress(done)
    return Reranked(run, seconds, reports)


def run_rerank(
    engine: Engine,
    folder: Path,
    run: Path,
    *,
    reranker: str,
    model: str = "",
    depth: int = 100,
    metrics: str,
    split: str = "test",
    qrels: Path | None = None,
    limit: int = 0,
    limits: Limits,
    run_out: Path | None = None,
    result_out: Path | None = None,
) -> RerankReport:
    """Rerank the lists of a run with a bar on stderr, score both orders, and write the new run where wanted.

    reranker  a reranker's name, or "none", which leaves the lists as they are
    Raises InvalidInput, SourceError.
    """
    measures = parse_measures(metrics)
    writable(run_out, result_out)
    chosen = None if reranker == NONE else engine.reranker(reranker, model=model, depth=depth, limits=limits)
    named = "" if chosen is None else engine.settings.reranker(reranker, model).model
    lists = load_lists(folder, run, split=split, qrels=qrels, limit=limit)
    with shown("rerank", len(lists.given)) as progress:
        reranked = rerank_lists(chosen, lists, progress)
    if run_out is not None:
        write_atomic(run_out, "".join(format_run(reranked.run, reranker)).encode())
    report = RerankReport(
        lists=lists,
        run=run.name,
        reranker=reranker,
        model=named,
        depth=depth,
        before=measured(lists.qrels, lists.given, measures),
        after=measured(lists.qrels, reranked.run, measures),
        reranked=reranked,
    )
    write_result(result_out, report.result)
    return report


def show(report: RerankReport, console: Console) -> None:
    """The report as a table, with what has to be known about it below."""
    said = report.as_json()
    table = Table(title=f"{said['dataset']}, {said['run']}: {said['reranker']} {said['model']}".rstrip())
    for name in ("measure", "given", "reranked"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    for name, value in said["metrics"]["given"].items():
        table.add_row(name, f"{value:.4f}", f"{said['metrics']['reranked'][name]:.4f}")
    table.add_section()
    for name, value in said["latency_ms"].items():
        table.add_row(f"{name} a query", "", f"{value:.1f} ms")
    for key in ("forward_passes", "prefill_tokens", "decoded_tokens", "reused_tokens"):
        if said[key]["total"]:
            table.add_row(f"{key.replace('_', ' ')} a query", "", f"{said[key]['mean']:.1f}")
    if said["reused_tokens"]["total"]:
        table.add_row("from the cache", "", f"{said['cache_share']:.0%}")
    table.add_row("peak memory", "", f"{said['peak_memory_mb']:.0f} MiB")
    table.add_row("degraded", "", f"{said['degraded_share']:.0%}")
    console.print(table)
    console.print(f"{said['queries']} queries reranked, {said['judged_queries']} judged", soft_wrap=True)
    for note in said["notes"]:
        console.print(note, soft_wrap=True, markup=False)
    console.print(f"commit {said['commit'] or 'unknown'}; {said['hardware']}", soft_wrap=True)


def _mean_and_total(counts: Sequence[int]) -> dict[str, float]:
    return {"mean": round(sum(counts) / max(1, len(counts)), 1), "total": sum(counts)}
