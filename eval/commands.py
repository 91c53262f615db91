"""The commands' work, from settings and files to reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.beir import fullest, load_dataset, read_folder, read_qrels
from eval.comparison import Comparison, Rules, compare
from eval.indexing import index
from eval.measures import Scores, parse_measures
from eval.measures import score as measured
from eval.report import Report
from eval.run import evaluate
from eval.systems import gaps, irrelevant, load_systems
from eval.trec import Qrels, format_run
from indexes.durable import write_atomic
from rag.assemble import Engine
from rag.config import Settings
from rag.errors import InvalidInput


def run_beir(
    settings: Settings,
    named: str,
    *,
    pipeline: str | None,
    overrides: Mapping[str, Any],
    metrics: str,
    split: str = "test",
    depth: int = 100,
    qrels: Path | None = None,
    collection: str | None = None,
    run_out: Path | None = None,
    result_out: Path | None = None,
) -> Report:
    """Evaluate one pipeline on one split of a BEIR set, and write the run and the result file where wanted."""
    measures = parse_measures(metrics)
    settings.pipeline(pipeline, overrides)  # a wrong name is refused before anything is built
    writable(run_out, result_out)
    engine = Engine(settings)
    dataset = load_dataset(named, split, store=engine.home.root / "datasets", qrels=qrels)
    indexed = index(engine, dataset, collection)
    fetch = depth + _may_hit_themselves(engine, indexed.name, dataset.queries)
    deep = _deep_enough(settings, pipeline, overrides, fetch)
    chosen = engine.pipeline(indexed.name, pipeline, deep)
    with shown("search", len(dataset.queries)) as progress:
        evaluated = evaluate(chosen, dataset.queries, depth, fetch=fetch, progress=progress)
    if run_out is not None:
        write_atomic(run_out, "".join(format_run(evaluated.run, chosen.name)).encode())
    scores = measured(dataset.qrels, evaluated.run, measures)
    unknown = _unknown(engine, indexed.name, dataset.qrels)
    report = Report(
        dataset=dataset,
        pipeline=chosen.name,
        overrides=overrides,
        depth=depth,
        candidates=chosen.depth,
        indexed=indexed,
        evaluated=evaluated,
        scores=scores,
        unknown=unknown,
    )
    write_result(result_out, report.result)
    return report


def writable(*files: Path | None) -> None:
    """Raises InvalidInput for a file whose folder is not there: known before hours of work, not after."""
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise InvalidInput(f"there is no folder {str(file.parent)!r} to write {file.name!r} to; make it first")


def write_result(file: Path | None, content: Callable[[], Mapping[str, Any]]) -> None:
    """The result file, whole or not at all, where one is wanted."""
    if file is not None:
        write_atomic(file, json.dumps(content(), ensure_ascii=False, indent=1).encode())


def _unknown(engine: Engine, collection: str, qrels: Qrels) -> int:
    """How many relevant documents the collection lacks, so that no pipeline could find them.

    Raises InvalidInput where it has none of them: then it is another set's collection.
    """
    opened = engine.collection(collection)
    relevant = {doc_id for grades in qrels.values() for doc_id, grade in grades.items() if grade > 0}
    unknown = {doc_id for doc_id in relevant if opened.document(doc_id) is None}
    if relevant and unknown == relevant:
        raise InvalidInput(
            f"none of the {len(relevant)} relevant documents is in the collection {collection!r}, for example "
            f"{min(unknown)!r}; do collection and judgements belong to the same set?"
        )
    return len(unknown)


def _may_hit_themselves(engine: Engine, collection: str, queries: Iterable[str]) -> bool:
    """True where a query bears the id of a document: then its own document may be found, and is taken out."""
    opened = engine.collection(collection)
    return any(opened.document(query_id) is not None for query_id in queries)


def _deep_enough(settings: Settings, pipeline: str | None, overrides: Mapping[str, Any], fetch: int) -> dict[str, Any]:
    """The overrides, and a depth that reaches ``fetch`` unless the caller set one; a deeper pipeline stays as it is."""
    configured = settings.pipeline(pipeline, overrides).depth
    return {"depth": max(fetch, configured), **overrides}


@dataclass(frozen=True, slots=True)
class RunScores:
    """A run's scores, how many of its queries are not judged, how many judged ones it lacks, and what to know."""

    scores: Scores
    unjudged: int
    missing: int
    notes: Sequence[str]


def score_run(qrels: Path, run: Path, metrics: str) -> RunScores:
    """The scores of a TREC run file; judged queries that it lacks count 0, those without judgements nothing."""
    measures, judged = parse_measures(metrics), read_qrels(qrels)
    (system,) = load_systems([run])
    ranked = system.run
    if ranked.keys().isdisjoint(judged):
        raise InvalidInput(f"no query of {run} is judged in {qrels}; do they belong to the same set?")
    return RunScores(
        measured(judged, ranked, measures),
        len(ranked.keys() - judged.keys()),
        len(judged.keys() - ranked.keys()),
        [*irrelevant(judged), *gaps(system, judged)],
    )


def compare_files(
    files: Sequence[Path],
    metrics: str,
    *,
    qrels: Path | None = None,
    data: Path | None = None,
    split: str = "test",
    baseline: str | None = None,
    rules: Rules,
) -> Comparison:
    """The systems of run and result files beside each other.

    qrels  judgements, TREC or BEIR form;  data  a BEIR folder with judgements of the split and the queries' texts
    """
    measures, systems = parse_measures(metrics), load_systems(files)
    judged, queries = judged_by(qrels, data, split)
    return compare(systems, measures, qrels=judged, queries=queries, baseline=baseline, rules=rules)


def report_files(
    files: Sequence[Path],
    out: Path,
    metrics: str,
    *,
    qrels: Path | None = None,
    data: Path | None = None,
    split: str = "test",
    title: str = "",
    language: str = "eng-Latn",
    rules: Rules,
) -> list[Path]:
    """Write the report of run and result files into ``out``; returns what was written, the page first."""
    from eval.reporting.content import content
    from eval.reporting.files import write_report

    measures, systems = parse_measures(metrics), load_systems(files)
    judged, queries = judged_by(qrels, data, split)
    said = content(systems, measures, title=title, qrels=judged, queries=queries, rules=rules)
    return write_report(said, out, language=language)


def judged_by(qrels: Path | None, data: Path | None, split: str) -> tuple[Qrels | None, Mapping[str, str]]:
    """Judgements and texts from what a command was given, None and none where it was given neither."""
    if data is not None:
        dataset = read_folder(data, split, qrels or fullest(data))
        return dataset.qrels, dataset.queries
    return (None if qrels is None else read_qrels(qrels)), {}


@contextmanager
def shown(step: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with rate and remaining time on stderr, to be told how many of ``total`` are done."""
    from rag.cli_index import shown_progress

    with shown_progress() as progress:
        yield lambda done: progress(step, done, total)
