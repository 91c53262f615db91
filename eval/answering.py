"""Answers of a pipeline over a set of questions with known answers: quality, citations, contexts, cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from eval.answer_measures import AnswerScores, mean, score_answer
from eval.answer_rows import Ask, from_library, from_server
from eval.asking import in_parallel
from eval.beir import Dataset, load_dataset, query_files, unjudged
from eval.commands import shown, writable
from eval.datasets.questions import answers
from eval.indexing import Indexed, index
from eval.judge import Asked, Judge, judge_all
from eval.kept_rows import KeptRows
from eval.machine import command, commit, hardware, peak_memory_mb, versions
from eval.made_by import made_by
from eval.run import FIRST, percentiles
from eval.running import AT_ONCE, Running
from eval.subject import check_served, served_by
from eval.tuning.record import records, refuse_tuned
from indexes.readers.beir import Beir
from rag.assemble import Engine
from rag.config import Settings
from rag.errors import InvalidInput
from rag.values import Query

TOKENS = ("context_tokens", "prompt_tokens", "completion_tokens", "prefill", "decoded", "reused")
"""What is counted a question: the context and the prompt by their own tokenizer, and what models did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReport:
    """One pipeline's answers; ``rows`` is question id to what was said and measured, as the file of rows keeps it.

    indexed  the collection, None where a server keeps it
    """

    dataset: Dataset
    pipeline: str
    overrides: Mapping[str, Any]
    known: Mapping[str, Sequence[str]]
    rows: Mapping[str, Mapping[str, Any]]
    reused: int
    url: str = ""
    notes: Sequence[str] = ()
    judged: Mapping[str, Any] | None = None
    indexed: Indexed | None = None

    def scores(self, query_id: str) -> AnswerScores:
        """Of one question, by the set's answers and relevant documents."""
        row = self.rows[query_id]
        return score_answer(
            row["text"] if row["found"] else None,
            self.known[query_id],
            cited=row["cited"],
            context=row["context"],
            gold=[doc_id for doc_id, grade in self.dataset.qrels.get(query_id, {}).items() if grade > 0],
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values; times in milliseconds, tokens a question."""
        each = {query_id: self.scores(query_id) for query_id in self.rows}
        return {
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "pipeline": self.pipeline,
            "url": self.url,
            "overrides": dict(self.overrides),
            "questions": len(self.rows),
            "unanswerable": sum(not self.known[query_id] for query_id in self.rows),
            "metrics": {name: round(value, 4) for name, (value, _) in _means(each.values()).items()},
            "counted": {name: count for name, (_, count) in _means(each.values()).items()},
            "abstained_answerable": _abstained([each[query_id] for query_id in each if self.known[query_id]]),
            "abstained_unanswerable": _abstained([each[query_id] for query_id in each if not self.known[query_id]]),
            "tokens": {name: self._mean(name) for name in TOKENS},
            "cache_share": self._cache_share(),
            "concurrency": sorted({row.get("jobs", 1) for row in self.rows.values()}),
            "latency_ms": percentiles([row["seconds"] for row in self.rows.values()]),
            "stages_latency_ms": {
                stage: percentiles([row["stages"][stage] for row in self.rows.values() if stage in row["stages"]])
                for stage in dict.fromkeys(stage for row in self.rows.values() for stage in row["stages"])
            },
            "degraded_share": self._mean("degraded"),
            "resumed": self.reused,
            "peak_memory_mb": None if self.url else peak_memory_mb(),
            "build": None if self.indexed is None else self.indexed.as_json(),
            "commit": commit(),
            "command": command(),
            "versions": versions(),
            "hardware": hardware(),
            "notes": list(self.notes),
            "judge": None if self.judged is None else dict(self.judged),
        }

    def _mean(self, name: str) -> float | None:
        """A question, None where it is not known of all."""
        known = [float(row[name]) for row in self.rows.values() if row.get(name) is not None]
        return round(sum(known) / len(known), 4) if len(known) == len(self.rows) else None

    def _cache_share(self) -> float:
        """Share of the tokens that models had to read that came from the cache, 0 where they read none."""
        reused, prefill = (sum(row[name] for row in self.rows.values()) for name in ("reused", "prefill"))
        return round(reused / (reused + prefill), 4) if reused else 0.0


def _means(scores: Any) -> dict[str, tuple[float, int]]:
    listed = list(scores)
    return {each.name: mean([getattr(one, each.name) for one in listed]) for each in fields(AnswerScores)}


def _abstained(scores: Sequence[AnswerScores]) -> float | None:
    """Share of the questions left without an answer, None where there is none of the kind."""
    return round(sum(one.abstained for one in scores) / len(scores), 4) if scores else None


def answer_all(
    ask: Ask,
    queries: Mapping[str, str],
    kept: KeptRows,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Asks every question that has no row of its text yet, ``jobs`` at a time; returns how many had one.

    One question before the first, which is not counted, makes models and indexes load outside of the measured time.
    """
    waiting = kept.waiting(queries)
    before = count = len(queries) - len(waiting)
    progress(count)

    def done(query_id: str, row: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        kept.keep_asked(query_id, queries[query_id], row | {"jobs": jobs})
        progress(count)

    if waiting:
        ask(FIRST)
    in_parallel(lambda query_id: ask(Query(queries[query_id], query_id)), waiting, jobs, done)
    return before


def run_answers(
    settings: Settings,
    named: str,
    *,
    pipeline: str = "ask",
    overrides: Mapping[str, Any],
    split: str = "test",
    limit: int = 0,
    collection: str | None = None,
    running: Running = AT_ONCE,
    config: Path | None = None,
    allow_tuned: bool = False,
    judged: bool = False,
) -> AnswerReport:
    """Answers the questions of a BEIR folder whose queries hold answers as metadata (``answer`` or ``answers``).

    limit   take the first so many questions only, 0 takes all
    judged  let the engine of [remote] grade the answers that were given; verdicts are kept beside ``running.rows``
    Raises InvalidInput where no judged query of the split says an answer, and where the pipeline was tuned on it.
    """
    if not running.url:
        settings.pipeline(pipeline, overrides)
    judge = Judge(settings.remote) if judged else None
    writable(running.rows)
    engine = Engine(settings)
    dataset = load_dataset(named, split, store=engine.home.root / "datasets")
    known, wanted = _questions(dataset, limit)
    tuning = records(settings.home, config)
    tuned = refuse_tuned(settings, tuning, pipeline, overrides, dataset, allow=allow_tuned, far=bool(running.url))

    def answered(ask: Ask, by: Mapping[str, Any], url: str = "", indexed: Indexed | None = None) -> AnswerReport:
        kept = running.kept(by)
        with shown("answer", len(wanted)) as progress:
            reused = answer_all(ask, wanted, kept, running.jobs, progress)
        verdicts = None if judge is None else _judged(judge, dataset, known, kept, wanted, running)
        return AnswerReport(
            dataset=dataset,
            pipeline=pipeline,
            overrides=overrides,
            known=known,
            rows={query_id: kept.rows[query_id] for query_id in wanted},
            reused=reused,
            url=url,
            notes=[tuned] if tuned else [],
            judged=verdicts,
            indexed=indexed,
        )

    if running.url:
        with running.server() as server:
            name = check_served(server, dataset, collection)
            chosen = {"name": pipeline, **overrides}
            by = served_by(server, name, pipeline, chosen, dataset, 1)
            return answered(from_server(server, name, chosen), by, server.url)
    indexed = index(engine, dataset, collection)
    by = made_by(engine, dataset, indexed, settings.pipeline(pipeline, overrides))
    return answered(from_library(engine.pipeline(indexed.name, pipeline, overrides)), by, indexed=indexed)


def _judged(
    judge: Judge,
    dataset: Dataset,
    known: Mapping[str, Sequence[str]],
    kept: KeptRows,
    wanted: Mapping[str, str],
    running: Running,
) -> dict[str, Any]:
    """Verdicts on the answers that were given; a question that was left without one is not judged."""
    answered = {query_id: kept.rows[query_id] for query_id in wanted if kept.rows[query_id]["found"]}
    read = {doc_id for row in answered.values() for doc_id in row["context"]}
    texts = {
        document.id: f"{document.title}\n{document.text}".strip()
        for document in Beir(dataset.path).documents(lambda skipped: None)
        if document.id in read
    }
    asked = {
        query_id: Asked(
            question=wanted[query_id],
            known=known[query_id],
            answer=row["text"],
            sources=[texts[doc_id] for doc_id in row["context"] if doc_id in texts],
        )
        for query_id, row in answered.items()
    }
    file = None if running.rows is None else running.rows.with_name(f"{running.rows.name}.judged")
    with shown("judge", len(asked)) as progress:
        return judge_all(judge, asked, file, running.jobs, progress)


def _questions(dataset: Dataset, limit: int) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Known answers by question, and the texts of the questions that are asked.

    Asked are those that say their answers and are judged in this split, then those that no split judges: nothing
    supports a question that cannot be answered.
    """
    texts = {**dataset.queries, **unjudged(dataset)}
    said = [pair for file in query_files(dataset.path, dataset.split) for pair in answers(file)]
    known = {query_id: each for query_id, each in said if query_id in texts}
    wanted = {query_id: text for query_id, text in texts.items() if query_id in known}
    if not wanted:
        raise InvalidInput(
            f"no query of {dataset.name} ({dataset.split}) says its answer; queries hold them as metadata: "
            '{"_id": ..., "text": ..., "metadata": {"answers": [...]}}'
        )
    return known, dict(list(wanted.items())[: limit or None])
