"""The commands' work, from settings and files to reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.beir import fullest, read_folder, read_qrels
from eval.comparison import Comparison, Rules, compare
from eval.measures import Scores, parse_measures
from eval.measures import score as measured
from eval.systems import gaps, irrelevant, load_systems
from eval.trec import Qrels
from indexes.durable import write_atomic
from rag.errors import InvalidInput


def writable(*files: Path | None) -> None:
    """Raises InvalidInput for a file whose folder is not there: known before hours of work, not after."""
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise InvalidInput(f"there is no folder {str(file.parent)!r} to write {file.name!r} to; make it first")


def write_result(file: Path | None, content: Callable[[], Mapping[str, Any]]) -> None:
    """The result file, whole or not at all, where one is wanted."""
    if file is not None:
        write_atomic(file, json.dumps(content(), ensure_ascii=False, indent=1).encode())


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
    png: bool = False,
    rules: Rules,
) -> list[Path]:
    """Write the report of run and result files into ``out``; returns what was written, the page first."""
    from eval.reporting.content import content
    from eval.reporting.files import write_report

    measures, systems = parse_measures(metrics), load_systems(files)
    judged, queries = judged_by(qrels, data, split)
    said = content(systems, measures, title=title, qrels=judged, queries=queries, rules=rules)
    return write_report(said, out, language=language, png=png)


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
