"""Answers of a pipeline over a set of questions with known answers: quality, citations, contexts, cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from eval.answer_measures import AnswerScores, mean, score_answer
from eval.beir import Dataset, load_dataset
from eval.commands import shown, writable
from eval.datasets.questions import answers
from eval.indexing import index
from eval.kept_rows import KeptRows, fingerprint
from eval.machine import command, commit, hardware, peak_memory_mb, versions
from eval.run import percentile
from rag.assemble import Engine
from rag.config import Settings
from rag.errors import InvalidInput
from rag.pipeline import Pipeline, trace
from rag.values import Answer, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReport:
    """One pipeline's answers; ``rows`` is question id to what was said and measured, as the file of rows keeps it."""

    dataset: Dataset
    pipeline: str
    overrides: Mapping[str, Any]
    known: Mapping[str, Sequence[str]]
    rows: Mapping[str, Mapping[str, Any]]
    reused: int

    def scores(self, query_id: str) -> AnswerScores:
        """Of one question, by the set's answers and relevant documents."""
        row = self.rows[query_id]
        return score_answer(
            row["text"] if row["found"] else None,
            self.known[query_id],
            cited=row["cited"],
            context=row["context"],
            gold=[doc_id for doc_id, grade in self.dataset.qrels[query_id].items() if grade > 0],
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values; times in milliseconds, tokens a question."""
        each = {query_id: self.scores(query_id) for query_id in self.rows}
        return {
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "pipeline": self.pipeline,
            "overrides": dict(self.overrides),
            "questions": len(self.rows),
            "unanswerable": sum(not self.known[query_id] for query_id in self.rows),
            "metrics": {name: round(value, 4) for name, (value, _) in _means(each.values()).items()},
            "counted": {name: count for name, (_, count) in _means(each.values()).items()},
            "abstained_answerable": _abstained([each[query_id] for query_id in each if self.known[query_id]]),
            "abstained_unanswerable": _abstained([each[query_id] for query_id in each if not self.known[query_id]]),
            "tokens": {name: self._mean(name) for name in ("context_tokens", "prefill", "decoded", "reused")},
            "latency_ms": self._latency("seconds"),
            "stages_latency_ms": {
                stage: _percentiles([row["stages"][stage] for row in self.rows.values() if stage in row["stages"]])
                for stage in dict.fromkeys(stage for row in self.rows.values() for stage in row["stages"])
            },
            "degraded_share": self._mean("degraded"),
            "resumed": self.reused,
            "peak_memory_mb": peak_memory_mb(),
            "commit": commit(),
            "command": command(),
            "versions": versions(),
            "hardware": hardware(),
        }

    def _mean(self, name: str) -> float:
        return round(sum(float(row[name]) for row in self.rows.values()) / len(self.rows), 4)

    def _latency(self, name: str) -> dict[str, float]:
        return _percentiles([row[name] for row in self.rows.values()])


def _means(scores: Any) -> dict[str, tuple[float, int]]:
    listed = list(scores)
    return {each.name: mean([getattr(one, each.name) for one in listed]) for each in fields(AnswerScores)}


def _abstained(scores: Sequence[AnswerScores]) -> float | None:
    """Share of the questions left without an answer, None where there is none of the kind."""
    return round(sum(one.abstained for one in scores) / len(scores), 4) if scores else None


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {name: round(1e3 * percentile(seconds, share), 3) for name, share in (("p50", 0.5), ("p95", 0.95))}


def answer_all(
    pipeline: Pipeline,
    queries: Mapping[str, str],
    kept: KeptRows,
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Asks every question that has no row yet, one after the other; returns how many had one."""
    before = len(kept.rows.keys() & queries.keys())
    for done, (query_id, text) in enumerate(queries.items(), start=1):
        if query_id not in kept.rows:
            started = time.perf_counter()
            answer = pipeline.answer(Query(text, query_id))
            kept.keep(query_id, _row(answer, time.perf_counter() - started))
        progress(done)
    return before


def _row(answer: Answer, seconds: float) -> dict[str, Any]:
    reports = trace(answer.context.ranking, answer.context.report, answer.report)
    return {
        "text": answer.text,
        "found": answer.found,
        "cited": list(dict.fromkeys(citation.doc_id for citation in answer.citations)),
        "context": list(dict.fromkeys(chunk.doc_id for chunk in answer.context.chunks)),
        "context_tokens": answer.context.tokens,
        "prefill": sum(report.tokens for report in reports),
        "decoded": sum(report.decoded for report in reports),
        "reused": sum(report.reused for report in reports),
        "degraded": any(report.degraded for report in reports),
        "seconds": seconds,
        "stages": {report.stage: report.seconds for report in reports},
    }


def run_answers(
    settings: Settings,
    named: str,
    *,
    pipeline: str = "ask",
    overrides: Mapping[str, Any],
    split: str = "test",
    limit: int = 0,
    collection: str | None = None,
    rows: Path | None = None,
) -> AnswerReport:
    """Answers the questions of a BEIR folder whose queries hold answers as metadata (``answer`` or ``answers``).

    limit  take the first so many questions only, 0 takes all
    rows   keep every answer in this file as it comes; a run over the same takes up what is there
    Raises InvalidInput where no judged query of the split says an answer.
    """
    chosen = settings.pipeline(pipeline, overrides)
    writable(rows)
    engine = Engine(settings)
    dataset = load_dataset(named, split, store=engine.home.root / "datasets")
    known = {
        query_id: said
        for name in ("queries.jsonl", f"queries.{split}.jsonl")
        if (dataset.path / name).is_file()
        for query_id, said in answers(dataset.path / name)
        if query_id in dataset.queries
    }
    wanted = {query_id: text for query_id, text in dataset.queries.items() if query_id in known}
    if not wanted:
        raise InvalidInput(
            f"no query of {dataset.name} ({split}) says its answer; queries hold them as metadata: "
            '{"_id": ..., "text": ..., "metadata": {"answers": [...]}}'
        )
    if limit:
        wanted = dict(list(wanted.items())[:limit])
    indexed = index(engine, dataset, collection)
    status = engine.collection(indexed.name).status()
    made_by = {
        "pipeline": asdict(chosen),
        "collection": [indexed.name, status.version, status.generation, status.manifest.fingerprint, indexed.encoder],
        "model": asdict(settings.model),
        "generation": asdict(settings.generation),
        "versions": versions(),
    }
    kept = KeptRows(rows, fingerprint(made_by))
    with shown("answer", len(wanted)) as progress:
        reused = answer_all(engine.pipeline(indexed.name, pipeline, overrides), wanted, kept, progress)
    return AnswerReport(
        dataset=dataset,
        pipeline=pipeline,
        overrides=overrides,
        known=known,
        rows={query_id: kept.rows[query_id] for query_id in wanted},
        reused=reused,
    )
