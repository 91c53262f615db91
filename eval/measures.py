"""Measures by ir-measures' names: ``nDCG@10``, ``R@100``, ``RR@10``, ``AP(rel=2)``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ir_measures import DefaultPipeline, parse_measure

from eval.own_measures import RankDiscountedGain, own_measure
from eval.trec import Qrels, Run, Scored
from rag.errors import InvalidInput

_COMPUTE: Any = DefaultPipeline  # its annotations are partial
_BETWEEN = re.compile(r"[\s,]+(?![^(]*\))")


@dataclass(frozen=True, slots=True)
class Scores:
    """What a run is worth.

    values     a measure's name to its mean over all judged queries, those the run lacks counting 0
    per_query  query id to measure to value
    """

    values: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]


def parse_measures(text: str) -> list[Any]:
    """The measures named in ``text``, separated by blanks or commas. Raises InvalidInput for an unknown one."""
    names = [name for name in _BETWEEN.split(text.strip()) if name]
    if not names:
        raise InvalidInput("no measure named; write for example: --metrics 'nDCG@10 R@100 RR@10'")
    return [_parsed(name) for name in names]


def _parsed(name: str) -> Any:
    if (own := own_measure(name)) is not None:
        return own
    known = "known are nDCG@10, R@100, RR@10, P@10, AP, Judged@10 and more: https://ir-measur.es"
    try:
        measure: Any = parse_measure(name)
        measure.validate_params()
    except (ValueError, NameError, AssertionError) as error:
        raise InvalidInput(f"{name!r} is no measure ({error}); {known}") from error
    if measure.params.get("cutoff", 1) < 1:
        raise InvalidInput(f"{name!r} cuts off everything; a cutoff is at least 1")
    if not _COMPUTE.supports(measure):
        raise InvalidInput(f"nothing that is installed computes {name!r}; {known}")
    return measure


def score(qrels: Qrels, run: Run, measures: Sequence[Any]) -> Scores:
    """The measures of a run, judged queries without results counting 0, queries without judgements nothing.

    An empty list is as a missing one. ir-measures' providers break ties differently, so each is handed the run's
    order as scores that cannot tie.
    Raises InvalidInput for a document that comes twice: it would be counted twice.
    """
    ordered = sorted(qrels)  # a sum of floats depends on the order, a mean may not depend on that of lines
    per_query: dict[str, dict[str, float]] = {query_id: {} for query_id in qrels}
    own = [measure for measure in measures if isinstance(measure, RankDiscountedGain)]
    values: dict[str, float] = {}
    if theirs := [measure for measure in measures if not isinstance(measure, RankDiscountedGain)]:
        given = {query_id: _by_rank(query_id, run[query_id]) for query_id in ordered if run.get(query_id)}
        result = _COMPUTE.calc(theirs, {query_id: dict(qrels[query_id]) for query_id in ordered}, given)
        for metric in result.per_query:
            per_query[metric.query_id][str(metric.measure)] = float(metric.value)
        values = {str(measure): float(value) for measure, value in result.aggregated.items()}
    for measure in own:
        each = [measure.value(qrels[query_id], _once(query_id, run.get(query_id, ()))) for query_id in ordered]
        for query_id, value in zip(ordered, each, strict=True):
            per_query[query_id][str(measure)] = value
        values[str(measure)] = sum(each) / len(each)
    return Scores({str(measure): values[str(measure)] for measure in measures}, per_query)


def _by_rank(query_id: str, documents: Sequence[Scored]) -> dict[str, float]:
    return {document.doc_id: -float(rank) for rank, document in enumerate(_once(query_id, documents), start=1)}


def _once(query_id: str, documents: Sequence[Scored]) -> Sequence[Scored]:
    if len({document.doc_id for document in documents}) != len(documents):
        raise InvalidInput(f"query {query_id!r} has a document twice; keep each document once")
    return documents
