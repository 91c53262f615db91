"""What an evaluation says: one value, as JSON for machines and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from eval.beir import Dataset
from eval.datasets.catalog import mismatches
from eval.indexing import Indexed
from eval.machine import command, commit, hardware, peak_memory_mb, versions
from eval.measures import Scores
from eval.run import Evaluated, percentile
from eval.systems import irrelevant, result


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One pipeline on one split.

    overrides   the pipeline's keys that were changed for this run
    unknown     relevant documents that the collection lacks
    depth       documents of a query that were scored;  candidates  the pipeline's own depth
    """

    dataset: Dataset
    pipeline: str
    overrides: Mapping[str, Any]
    depth: int
    candidates: int
    indexed: Indexed
    evaluated: Evaluated
    scores: Scores
    unknown: int

    def as_json(self) -> dict[str, Any]:
        """Plain values; times of queries in milliseconds, of the build in seconds."""
        evaluated, indexed = self.evaluated, self.indexed
        return {
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "pipeline": self.pipeline,
            "overrides": dict(self.overrides),
            "depth": self.depth,
            "metrics": dict(self.scores.values),
            "queries": len(evaluated.seconds),
            "judged_queries": len(self.dataset.qrels),
            "self_hits_removed": evaluated.self_hits_removed,
            "unknown_documents": self.unknown,
            "latency_ms": {
                "p50": _milliseconds(percentile(evaluated.seconds, 0.5)),
                "p95": _milliseconds(percentile(evaluated.seconds, 0.95)),
            },
            "stages_ms": {stage: _milliseconds(mean) for stage, mean in evaluated.stages.items()},
            "stages_latency_ms": {
                stage: {
                    "p50": _milliseconds(percentile(seconds, 0.5)),
                    "p95": _milliseconds(percentile(seconds, 0.95)),
                }
                for stage, seconds in evaluated.stage_seconds.items()
            },
            "work": evaluated.work.means(len(evaluated.seconds)),
            "cache_share": round(evaluated.work.cache_share, 4),
            "peak_memory_mb": peak_memory_mb(),
            "build": {
                "seconds": dict(indexed.seconds),
                "documents": indexed.documents,
                "chunks": indexed.chunks,
                "megabytes": indexed.megabytes,
                "reused": indexed.reused,
            },
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
        said = [f"documents by their best chunk (max-P), cut at {self.depth}; missing queries score 0"]
        said.append(f"retrievers gave {self.candidates} candidates a query (pipeline depth)")
        if self.evaluated.self_hits_removed:
            said.append(
                f"{self.evaluated.self_hits_removed} results that were the query's own document were removed "
                f"before the cut; {self.depth + 1} were fetched for that"
            )
        if judged > asked:
            said.append(f"{judged - asked} judged queries have no text and score 0")
        if self.unknown:
            said.append(f"{self.unknown} relevant documents are not in the collection; no pipeline could find them")
        return said + irrelevant(self.dataset.qrels) + mismatches(self.dataset, self.indexed.documents)


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
    for name, value in said["latency_ms"].items():
        table.add_row(f"{name} a query", f"{value:.1f} ms")
    for name, value in said["stages_ms"].items():
        table.add_row(f"mean of {name}", f"{value:.1f} ms")
    console.print(table)
    build = said["build"]
    console.print(
        f"{said['queries']} queries asked, {said['judged_queries']} judged; collection {said['collection']} "
        f"({build['documents']} documents, {build['chunks']} chunks, {'found' if build['reused'] else 'built now'}: "
        f"{sum(build['seconds'].values()):.1f} s), encoder {said['encoder']}",
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
