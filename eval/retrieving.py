"""A pipeline's retrieval on a test collection, through the library or through a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.beir import Dataset, load_dataset
from eval.commands import shown, writable, write_result
from eval.measures import check_cutoffs, deepest, parse_measures
from eval.measures import score as measured
from eval.report import Report
from eval.run import evaluate
from eval.running import AT_ONCE, Running
from eval.subject import Subject, in_library, on_server
from eval.trec import format_run
from eval.tuning.record import records, refuse_tuned
from indexes.durable import write_atomic
from rag.assemble import Engine
from rag.config import Settings

DEPTH = 100
"""Documents of a query that are scored where no measure looks at more."""


def run_beir(
    settings: Settings,
    named: str,
    *,
    pipeline: str | None,
    overrides: Mapping[str, Any],
    metrics: str,
    split: str = "test",
    depth: int | None = None,
    qrels: Path | None = None,
    collection: str | None = None,
    running: Running = AT_ONCE,
    config: Path | None = None,
    allow_tuned: bool = False,
    run_out: Path | None = None,
    result_out: Path | None = None,
) -> Report:
    """Evaluate one pipeline on one split of a BEIR set, and write the run and the result file where wanted.

    depth   documents of a query that are scored: 100, or as many as a measure looks at, unless it is given
    config  the settings' file, beside which a record of tuning may stand
    Raises InvalidInput where a measure looks at more documents than the depth, and where the pipeline was tuned on this
    split, unless that is allowed: then a note says it.
    """
    measures = parse_measures(metrics)
    depth = max(DEPTH, deepest(measures)) if depth is None else depth
    check_cutoffs(measures, depth, f"--depth {depth} finds no more")
    if not running.url:
        settings.pipeline(pipeline, overrides)  # a wrong name is refused before anything is built
    writable(run_out, result_out, running.rows)
    engine = Engine(settings)
    dataset = load_dataset(named, split, store=engine.home.root / "datasets", qrels=qrels)
    far = bool(running.url)
    tuned = refuse_tuned(
        settings, records(settings.home, config), pipeline, overrides, dataset, allow=allow_tuned, far=far
    )
    if running.url:
        with running.server() as server:
            subject = on_server(server, dataset, pipeline, overrides, depth=depth, collection=collection)
            return _run(subject, dataset, overrides, measures, depth, running, tuned, run_out, result_out)
    subject = in_library(engine, dataset, pipeline, overrides, depth=depth, collection=collection)
    return _run(subject, dataset, overrides, measures, depth, running, tuned, run_out, result_out)


def _run(
    subject: Subject,
    dataset: Dataset,
    overrides: Mapping[str, Any],
    measures: list[Any],
    depth: int,
    running: Running,
    tuned: str,
    run_out: Path | None,
    result_out: Path | None,
) -> Report:
    kept = running.kept(subject.made_by)
    with shown("search", len(dataset.queries)) as progress:
        evaluated = evaluate(
            subject.search,
            dataset.queries,
            depth,
            fetch=subject.fetch,
            jobs=running.jobs,
            kept=kept,
            progress=progress,
        )
    if run_out is not None:
        write_atomic(run_out, "".join(format_run(evaluated.run, subject.pipeline)).encode())
    report = Report(
        dataset=dataset,
        subject=subject,
        overrides=overrides,
        depth=depth,
        evaluated=evaluated,
        scores=measured(dataset.qrels, evaluated.run, measures),
        tuned=tuned,
    )
    write_result(result_out, report.result)
    return report
