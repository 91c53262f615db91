"""What an evaluation says: one value, as JSON for machines and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from eval.beir import Dataset
from eval.datasets.catalog import mismatches
from eval.machine import command, commit, hardware, peak_memory_mb, versions
from eval.measures import Scores
from eval.run import Evaluated, percentiles
from eval.subject import Subject
from eval.systems import irrelevant, result


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One pipeline on one split.

    overrides   the pipeline's keys that were changed for this run
    depth       documents of a query that were scored;  tuned  a warning where the pipeline was tuned on the split
    """

    dataset: Dataset
    subject: Subject
    overrides: Mapping[str, Any]
    depth: int
    evaluated: Evaluated
    scores: Scores
    tuned: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values; times of queries in milliseconds, of the build in seconds."""
        evaluated, subject, indexed = self.evaluated, self.subject, self.subject.indexed
        return {
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "pipeline": subject.pipeline,
            "url": subject.url,
            "overrides": dict(self.overrides),
            "depth": self.depth,
            "metrics": dict(self.scores.values),
            "queries": len(evaluated.seconds),
            "judged_queries": len(self.dataset.qrels),
            "self_hits_removed": evaluated.self_hits_removed,
            "unknown_documents": subject.unknown,
            "resumed": evaluated.resumed,
            "concurrency": list(evaluated.concurrency),
            "degraded_share": round(evaluated.degraded / max(1, len(evaluated.seconds)), 4),
            "latency_ms": percentiles(evaluated.seconds),
            "stages_ms": {stage: _milliseconds(mean) for stage, mean in evaluated.stages.items()},
            "stages_latency_ms": {stage: percentiles(seconds) for stage, seconds in evaluated.stage_seconds.items()},
            "work": evaluated.work.means(len(evaluated.seconds)),
            "cache_share": round(evaluated.work.cache_share, 4),
            "peak_memory_mb": None if subject.url else peak_memory_mb(),
            "build": indexed.as_json(),
            "encoder": indexed.encoder,
            "collection": indexed.name,
            "commit": commit(),
            "command": command(),
            "versions": versions(),
            "hardware": hardware(),
            "notes": self.notes(),
        }

    def result(self) -> dict[str, Any]:
        """The content of a result file."""
        evaluated = self.evaluated
        return result(
            self.as_json(),
            run=evaluated.run,
            queries=self.dataset.queries,
            qrels=self.dataset.qrels,
            scores=self.scores,
            seconds=dict(zip(evaluated.run, evaluated.seconds, strict=True)),
        )

    def notes(self) -> list[str]:
        """Everything that a reader of the figures has to know."""
        judged, asked = len(self.dataset.qrels), len(self.evaluated.seconds)
        said = [self.tuned] if self.tuned else []
        said += [f"documents by their best chunk (max-P), cut at {self.depth}; missing queries score 0"]
        subject = self.subject
        if subject.candidates is not None:
            said.append(f"retrievers gave {subject.candidates} candidates a query (pipeline depth)")
        if subject.url:
            said.append(
                f"asked of {subject.url}: times hold the way there and back; its memory and build are not known"
            )
        if self.evaluated.concurrency not in ([1], []):
            said.append(f"times were measured with {_listed(self.evaluated.concurrency)} queries at once")
        if self.evaluated.resumed:
            said.append(f"{self.evaluated.resumed} queries were taken from an earlier run, with their times")
        if self.evaluated.degraded:
            said.append(f"{self.evaluated.degraded} queries were degraded: a stage gave less than was asked for")
        if self.evaluated.self_hits_removed:
            said.append(
                f"{self.evaluated.self_hits_removed} results that were the query's own document were removed "
                f"before the cut; {self.depth + 1} were fetched for that"
            )
        if judged > asked:
            said.append(f"{judged - asked} judged queries have no text and score 0")
        if subject.unknown:
            said.append(f"{subject.unknown} relevant documents are not in the collection; no pipeline could find them")
        return said + irrelevant(self.dataset.qrels) + mismatches(self.dataset, subject.indexed.documents)


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def show(report: Report, console: Console) -> None:
    """The report as a table, with what has to be known about it below."""
    said = report.as_json()
    table = Table(title=f"{said['dataset']} {said['split']}: {said['pipeline']}{_changes(said['overrides'])}")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in said["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    table.add_section()
    at_once = "" if said["concurrency"] in ([1], []) else f", {_listed(said['concurrency'])} at once"
    for name, times in {"a query": said["latency_ms"], **said["stages_latency_ms"]}.items():
        table.add_row(f"p50, p95 of {name}{at_once}", f"{times['p50']:.1f}, {times['p95']:.1f} ms")
    for name, value in said["work"].items():
        if value:
            table.add_row(f"{name.replace('_', ' ')} a query", f"{value:.1f}")
    if said["work"]["reused_tokens"]:
        table.add_row("from the cache", f"{said['cache_share']:.0%}")
    if said["peak_memory_mb"] is not None:
        table.add_row("peak memory", f"{said['peak_memory_mb']:.0f} MiB")
    console.print(table)
    build = said["build"]
    size = "" if build["megabytes"] is None else f", {build['megabytes']:.1f} MiB"
    console.print(
        f"{said['queries']} queries asked, {said['judged_queries']} judged; collection {said['collection']} "
        f"({build['documents']} documents, {build['chunks']} chunks{size}, "
        f"{'found' if build['reused'] else 'built now'}: {sum(build['seconds'].values()):.1f} s), "
        f"encoder {said['encoder']}",
        soft_wrap=True,
    )
    for note in said["notes"]:
        console.print(note, soft_wrap=True)
    console.print(f"commit {said['commit'] or 'unknown'}; {said['hardware']}", soft_wrap=True)


def _changes(overrides: Mapping[str, Any]) -> str:
    return f" with {', '.join(f'{key}={value}' for key, value in overrides.items())}" if overrides else ""


def show_scores(scores: Scores, console: Console, *, per_query: bool) -> None:
    """Measures of a run, a row a query first where wanted."""
    table = Table()
    table.add_column("query")
    for name in scores.values:
        table.add_column(name, justify="right")
    for query_id in sorted(scores.per_query) if per_query else []:
        table.add_row(query_id, *_cells(scores.values, scores.per_query[query_id]))
    table.add_row(f"all {len(scores.per_query)}", *_cells(scores.values, scores.values), style="bold")
    console.print(table)


def _cells(names: Mapping[str, float], values: Mapping[str, float]) -> Sequence[str]:
    return [f"{values[name]:.4f}" for name in names]
