"""Systems that are compared or reported: TREC runs and result files, read into one form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.beir import read_lines
from eval.measures import Scores, check_cutoffs, score
from eval.result_file import Facts, facts, row
from eval.trec import Qrels, Run, Scored, parse_run
from rag.errors import InvalidInput

FORMAT = 1
MARK = "kvasir_result"
"""The key of a result file that holds the number of its form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system's answers to the queries of a set.

    name     unique among those that are shown together
    run      query id to documents, best first
    queries  query id to text;  qrels  judgements that the run was made for. Both are empty for a TREC run
    seconds  query id to the time that it took, where that was measured
    facts    what a result file says of its lists and costs, checked;  summary  all that it says beside the queries:
             configuration, times, tokens, machine. Both say nothing for a TREC run
    """

    name: str
    run: Run
    queries: Mapping[str, str]
    qrels: Qrels
    seconds: Mapping[str, float]
    facts: Facts = field(default_factory=Facts)
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What the file says that a reader of its figures has to know, under the system's name."""
        return [f"{self.name}: {note}" for note in self.facts.notes]


def result(
    summary: Mapping[str, Any],
    *,
    run: Run,
    queries: Mapping[str, str],
    qrels: Qrels,
    scores: Scores,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """A result file's content: the summary, and of each judged query its text, judgements, documents and values."""
    per_query = {
        query_id: {
            "text": queries.get(query_id, ""),
            "seconds": seconds.get(query_id),
            "measures": dict(scores.per_query[query_id]),
            "documents": [[document.doc_id, document.score] for document in run.get(query_id, ())],
            "qrels": dict(grades),
        }
        for query_id, grades in qrels.items()
    }
    return {MARK: FORMAT, **summary, "per_query": per_query}


def load_systems(files: Sequence[Path]) -> list[System]:
    """The systems of result files (JSON) and TREC runs, in the order given, named by file.

    Files of the same stem bear their whole paths. Raises SourceError, and InvalidInput that names file and line.
    """
    stems = [file.stem for file in files]
    if twice := [file for file in files if files.count(file) > 1]:
        raise InvalidInput(f"{twice[0]} is given twice; a system is compared with others")
    names = [str(file) if stems.count(file.stem) > 1 else file.stem for file in files]
    return [_loaded(file, name) for file, name in zip(files, names, strict=True)]


def _loaded(file: Path, name: str) -> System:
    lines = read_lines(file)
    first = next((line.lstrip("\ufeff \t") for line in lines if line.strip()), "")
    if first.startswith(("{", "[")):
        return _from_result(lines, file, name)
    run = parse_run(lines, str(file))
    if not run:
        raise InvalidInput(f"{file} holds no result; give a TREC run ('qid Q0 docid rank score tag') or a result file")
    return System(name=name, run=run, queries={}, qrels={}, seconds={})


def _from_result(lines: Sequence[str], file: Path, name: str) -> System:
    try:
        said = json.loads("\n".join(lines).removeprefix("\ufeff"))
    except ValueError as error:
        at = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidInput(
            f"{file}{at} is no whole JSON ({error}); was its writing interrupted? Make it anew"
        ) from None
    if not isinstance(said, dict) or said.get(MARK) != FORMAT:
        raise InvalidInput(
            f"{file} is JSON, but no result file of form {FORMAT}; write one with: kvasir-eval beir ... --result FILE"
        )
    rows = said.pop("per_query", None)
    if not isinstance(rows, dict) or not rows:
        raise InvalidInput(f"{file} holds no judged query under 'per_query'; make it anew")
    run: dict[str, Sequence[Scored]] = {}
    seconds: dict[str, float] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for query_id, said_of_it in rows.items():
        one = row(said_of_it, f"{file}, query {query_id!r}")
        queries[query_id], qrels[query_id] = one.text, one.qrels
        if one.documents:
            run[query_id] = one.scored()
        if one.seconds is not None:
            seconds[query_id] = one.seconds
    known = facts(said, file)
    return System(name=name, run=run, queries=queries, qrels=qrels, seconds=seconds, facts=known, summary=said)


def judgements(systems: Sequence[System], given: Qrels | None) -> Qrels:
    """The judgements all systems are scored by: those given, else the result files' own.

    Raises InvalidInput where there is none, where result files were made for different judgements (so a mean of
    one would not be comparable with a mean of the other), and where a system answers no judged query.
    """
    own = [system for system in systems if system.qrels]
    if given is None and not own:
        raise InvalidInput("TREC runs hold no judgements; name them with --qrels FILE or --data FOLDER")
    qrels = own[0].qrels if given is None else given
    for system in own[1:] if given is None else []:
        if system.qrels != qrels:
            raise InvalidInput(
                f"{own[0].name!r} and {system.name!r} were made for different judgements "
                f"({len(qrels)} and {len(system.qrels)} queries); compare runs of one set and split, or name --qrels"
            )
    for system in systems:
        if system.run.keys().isdisjoint(qrels):
            raise InvalidInput(f"no query of {system.name!r} is judged; do the run and the judgements belong together?")
    return qrels


def texts(systems: Sequence[System], given: Mapping[str, str]) -> dict[str, str]:
    """Query id to text from all that is known; those given count most."""
    known: dict[str, str] = {}
    for system in reversed(systems):
        known.update({query_id: text for query_id, text in system.queries.items() if text})
    return known | dict(given)


def scored(systems: Sequence[System], qrels: Qrels, measures: Sequence[Any]) -> dict[str, Scores]:
    """System's name to its scores, all by the same judgements.

    Raises InvalidInput for a measure that looks below the rank where a system's lists were cut off.
    """
    for system in systems:
        if system.facts.cut is not None:
            check_cutoffs(measures, system.facts.cut, f"{system.name} holds the best {system.facts.cut} of each query")
    return {system.name: score(qrels, system.run, measures) for system in systems}


def gaps(system: System, qrels: Qrels) -> list[str]:
    """What a reader of the system's figures has to know about its queries."""
    said = []
    if missing := sorted(qrels.keys() - system.run.keys()):
        said.append(f"{system.name}: {len(missing)} judged queries have no result and score 0, first {missing[0]!r}")
    if extra := sorted(system.run.keys() - qrels.keys()):
        said.append(f"{system.name}: {len(extra)} queries are not judged and left out, first {extra[0]!r}")
    if not any(
        document.doc_id in qrels[query_id] for query_id in shared(system, qrels) for document in system.run[query_id]
    ):
        said.append(
            f"{system.name}: no document is judged for the query it stands under; are these ids of the same set?"
        )
    return said


def shared(system: System, qrels: Qrels) -> list[str]:
    """Judged queries that the system has results for, in order."""
    return sorted(system.run.keys() & qrels.keys())


def irrelevant(qrels: Qrels) -> list[str]:
    """What has to be said of queries without a relevant document, which count 0 whatever a system does."""
    empty = sorted(query_id for query_id, grades in qrels.items() if not any(grade > 0 for grade in grades.values()))
    return [f"{len(empty)} judged queries have no relevant document and count 0, first {empty[0]!r}"] if empty else []
