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
    """The measures named in ``text``, separated by blanks or commas, each once. Raises InvalidInput for an unknown one.

    One under two names is one: twice, it would be two tests of a comparison.
    """
    names = [name for name in _BETWEEN.split(text.strip()) if name]
    if not names:
        raise InvalidInput("no measure named; write for example: --metrics 'nDCG@10 R@100 RR@10'")
    return list({str(measure): measure for measure in map(_parsed, names)}.values())


def check_cutoffs(measures: Sequence[Any], depth: int, known: str) -> None:
    """Raises InvalidInput for a cutoff below the rank that lists go down to, ``known`` says where they end.

    Such a measure would count documents as missing that nobody looked for.
    """
    for measure in measures:
        if (cutoff := deepest([measure])) > depth:
            raise InvalidInput(
                f"{measure} looks at {cutoff} documents, {known}; name another measure with --metrics, or run it anew "
                f"with --depth {cutoff}"
            )


def deepest(measures: Sequence[Any]) -> int:
    """The largest cutoff of the measures, 0 where none has one."""
    return max((_cutoff(measure) for measure in measures), default=0)


def _cutoff(measure: Any) -> int:
    if isinstance(measure, RankDiscountedGain):
        return measure.cutoff
    return int(measure.params.get("cutoff", 0))


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
