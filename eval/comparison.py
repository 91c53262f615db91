"""Systems beside each other: every pair tested, corrected for the number of tests, with the queries that moved most."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from eval.measures import Scores
from eval.significance import TIE, Paired, holm, paired
from eval.systems import System, gaps, irrelevant, judgements, scored, texts
from eval.trec import Qrels, Run
from rag.errors import InvalidInput

SHOWN = 5
"""Relevant documents of a changed query whose ranks are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One query in both systems.

    before, after  the measure's value
    ranks          relevant document to its rank from 1 in both, None where it was not found; by grade, then better rank
    """

    query_id: str
    text: str
    before: float
    after: float
    ranks: Mapping[str, tuple[int | None, int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """``after`` beside ``before`` in one measure; a difference is after - before, a win is after's.

    t_corrected, randomised_corrected  p values by Holm over all pairs and measures of the comparison
    changed  queries whose value moved, most first
    """

    measure: str
    before: str
    after: str
    tested: Paired
    t_corrected: float | None
    randomised_corrected: float
    changed: Sequence[Change]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How pairs are tested.

    alpha       the corrected p below which a difference is called significant
    confidence  of the bootstrap interval, in (0, 1);  resamples  of interval and randomisation test
    changed     queries that are listed for a pair
    """

    seed: int = 0
    resamples: int = 10_000
    confidence: float = 0.95
    alpha: float = 0.05
    changed: int = 5

    def __post_init__(self) -> None:
        for name, value in (("confidence", self.confidence), ("alpha", self.alpha)):
            if not 0 < value < 1:
                raise InvalidInput(f"{name} = {value:g}; it lies between 0 and 1, both excluded")
        if not 100 <= self.resamples <= 10_000_000:
            raise InvalidInput(f"resamples = {self.resamples}; take 100 to 10000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Systems' scores, and their pairs."""

    rules: Rules
    queries: int
    scores: Mapping[str, Scores]
    pairs: Sequence[Pair]
    notes: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "queries": self.queries,
            "systems": {name: dict(scores.values) for name, scores in self.scores.items()},
            "pairs": [_pair_as_json(pair, self.rules.alpha) for pair in self.pairs],
            "rules": asdict(self.rules),
            "tests": len(self.pairs),
            "correction": "holm",
            "notes": list(self.notes),
        }


def compare(
    systems: Sequence[System],
    measures: Sequence[Any],
    *,
    qrels: Qrels | None = None,
    queries: Mapping[str, str] | None = None,
    baseline: str | None = None,
    rules: Rules,
) -> Comparison:
    """Every pair of systems, or each with the baseline, over all judged queries; a missing query counts 0.

    Raises InvalidInput for fewer than two systems, an unknown baseline, and judgements that do not fit.
    """
    if len(systems) < 2:
        raise InvalidInput("one system alone; name at least two runs to compare")
    judged = judgements(systems, qrels)
    known, scores = texts(systems, queries or {}), scored(systems, judged, measures)
    runs = {system.name: system.run for system in systems}
    pairs = [
        _pair(str(measure), before, after, scores, runs, judged, known, rules)
        for measure in measures
        for before, after in _pairs(list(runs), baseline)
    ]
    return Comparison(
        rules=rules,
        queries=len(judged),
        scores=scores,
        pairs=_corrected(pairs),
        notes=[
            *irrelevant(judged),
            *(note for system in systems for note in [*gaps(system, judged), *system.notes]),
        ],
    )


def _pairs(names: Sequence[str], baseline: str | None) -> list[tuple[str, str]]:
    if baseline is None:
        return list(itertools.combinations(names, 2))
    if baseline not in names:
        raise InvalidInput(f"no system is called {baseline!r}; the baseline is one of: {', '.join(names)}")
    return [(baseline, name) for name in names if name != baseline]


def _pair(
    measure: str,
    before: str,
    after: str,
    scores: Mapping[str, Scores],
    runs: Mapping[str, Run],
    qrels: Qrels,
    known: Mapping[str, str],
    rules: Rules,
) -> Pair:
    first, second = scores[before].per_query, scores[after].per_query
    moved = {query_id: second[query_id][measure] - first[query_id][measure] for query_id in sorted(qrels)}
    most = sorted(
        (query_id for query_id in moved if abs(moved[query_id]) > TIE),
        key=lambda query_id: (-abs(moved[query_id]), query_id),
    )
    tested = paired(list(moved.values()), seed=rules.seed, resamples=rules.resamples, confidence=rules.confidence)
    return Pair(
        measure=measure,
        before=before,
        after=after,
        tested=tested,
        t_corrected=tested.t_p,
        randomised_corrected=tested.randomised_p,
        changed=[
            Change(
                query_id=query_id,
                text=known.get(query_id, ""),
                before=first[query_id][measure],
                after=second[query_id][measure],
                ranks=_ranks(qrels[query_id], query_id, runs[before], runs[after]),
            )
            for query_id in most[: rules.changed]
        ],
    )


def _ranks(
    grades: Mapping[str, int], query_id: str, before: Run, after: Run
) -> dict[str, tuple[int | None, int | None]]:
    first, second = (
        {document.doc_id: rank for rank, document in enumerate(run.get(query_id, ()), start=1)}
        for run in (before, after)
    )
    unseen = len(first) + len(second) + 1
    relevant = sorted(
        (doc_id for doc_id, grade in grades.items() if grade > 0),
        key=lambda name: (-grades[name], min(first.get(name, unseen), second.get(name, unseen)), name),
    )
    return {doc_id: (first.get(doc_id), second.get(doc_id)) for doc_id in relevant[:SHOWN]}


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with p values corrected for all of them; either test is a family of its own."""
    by_t = holm([pair.tested.t_p for pair in pairs])
    by_signs = [p for p in holm([pair.tested.randomised_p for pair in pairs]) if p is not None]
    return [
        replace(pair, t_corrected=t, randomised_corrected=p) for pair, t, p in zip(pairs, by_t, by_signs, strict=True)
    ]


def _pair_as_json(pair: Pair, alpha: float) -> dict[str, Any]:
    tested = pair.tested
    return {
        "measure": pair.measure,
        "before": pair.before,
        "after": pair.after,
        "difference": tested.mean,
        "interval": [tested.low, tested.high],
        "wins": tested.wins,
        "ties": tested.ties,
        "losses": tested.losses,
        "t": {"p": tested.t_p, "corrected": pair.t_corrected},
        "randomisation": {"p": tested.randomised_p, "corrected": pair.randomised_corrected, "exact": tested.exact},
        "significant": pair.randomised_corrected < alpha,
        "changed": [
            {
                "query": change.query_id,
                "text": change.text,
                "before": change.before,
                "after": change.after,
                "ranks": {doc_id: list(both) for doc_id, both in change.ranks.items()},
            }
            for change in pair.changed
        ],
    }
