"""Laws of the measures over random judgements and runs with ties, and equality with trec_eval and ir-measures."""

from __future__ import annotations

import io
import random
from typing import Any

import ir_measures
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.asking import collapse
from eval.measures import parse_measures, score
from eval.trec import parse_qrels, parse_run
from rag.values import Chunk, Hit, Ranking, ScoreKind, StageReport

LAW = settings(max_examples=30, deadline=None)
NAMES = "nDCG@10 nDCG@3 R@5 P@3 RR@10 AP Judged@10"
MEASURES = parse_measures(NAMES)
IDS = st.sampled_from([f"d{number}" for number in range(12)])
QUERIES = st.sampled_from(["p", "q", "r"])
TIED = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.25, -3.0])
"""Few values, so that most runs have ties; all are the same in single precision."""


@st.composite
def judged(draw: st.DrawFn) -> list[str]:
    """Lines of TREC judgements: grades from -1 to 3, each pair once, at least one."""
    pairs = draw(st.dictionaries(st.tuples(QUERIES, IDS), st.integers(-1, 3), min_size=1, max_size=20))
    return [f"{query} 0 {doc} {grade}" for (query, doc), grade in pairs.items()]


@st.composite
def listed(draw: st.DrawFn) -> list[str]:
    """Lines of a TREC run: each document once a query, ranks that mean nothing."""
    pairs = draw(st.dictionaries(st.tuples(QUERIES, IDS), TIED, max_size=25))
    return [f"{query} Q0 {doc} {draw(st.integers(0, 9))} {value} tag" for (query, doc), value in pairs.items()]


def values(qrels: list[str], run: list[str]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    found = score(parse_qrels(qrels, "qrels"), parse_run(run, "run"), MEASURES)
    return dict(found.values), {query: dict(each) for query, each in found.per_query.items()}


@LAW
@given(judged(), listed())
def test_every_value_is_there_and_lies_between_0_and_1(qrels: list[str], run: list[str]) -> None:
    means, per_query = values(qrels, run)
    assert set(per_query) == {line.split()[0] for line in qrels}
    for each in [means, *per_query.values()]:
        assert set(each) == {str(measure) for measure in MEASURES}
        assert all(0.0 <= value <= 1.0 + 1e-9 for value in each.values())


@LAW
@given(judged(), listed())
def test_a_mean_is_the_mean_over_all_judged_queries(qrels: list[str], run: list[str]) -> None:
    means, per_query = values(qrels, run)
    for name, mean in means.items():
        assert mean == pytest.approx(sum(each[name] for each in per_query.values()) / len(per_query))


@LAW
@given(judged(), listed(), st.randoms())
def test_the_order_of_lines_is_of_no_account(qrels: list[str], run: list[str], shuffled: random.Random) -> None:
    expected = values(qrels, run)
    for lines in (qrels, run):
        shuffled.shuffle(lines)
    assert values(qrels, run) == expected


@LAW
@given(judged(), listed())
def test_values_are_trec_evals_through_all_ties(qrels: list[str], run: list[str]) -> None:
    """trec_eval gets the raw scores and breaks ties by its own rule; it says nothing of queries a run lacks."""
    grades: dict[str, dict[str, int]] = {}
    for line in qrels:
        query, _, doc, grade = line.split()
        grades.setdefault(query, {})[doc] = int(grade)
    raw: dict[str, dict[str, float]] = {}
    for line in run:
        query, _, doc, _, value, _ = line.split()
        raw.setdefault(query, {})[doc] = float(value)
    _, ours = values(qrels, run)
    names = {"nDCG@10": "ndcg_cut_10", "nDCG@3": "ndcg_cut_3", "R@5": "recall_5", "P@3": "P_3", "AP": "map"}
    evaluator = pytrec_eval.RelevanceEvaluator(grades, {"ndcg_cut.3,10", "recall.5", "P.3", "map", "recip_rank"})
    for query, theirs in evaluator.evaluate(raw).items():
        for name, known in names.items():
            assert ours[query][name] == pytest.approx(theirs[known], abs=1e-6), (query, name)
        first = theirs["recip_rank"]
        assert ours[query]["RR@10"] == pytest.approx(first if first >= 1 / 10 else 0.0)


@LAW
@given(judged(), listed(), st.randoms())
def test_values_are_ir_measures_where_nothing_ties(qrels: list[str], run: list[str], drawn: random.Random) -> None:
    numbers = drawn.sample(range(1000), len(run))
    distinct = [" ".join([*line.split()[:4], str(value), "tag"]) for line, value in zip(run, numbers, strict=True)]
    measured: Any = ir_measures
    given_qrels = list(measured.read_trec_qrels(io.StringIO("\n".join(qrels))))
    given_run = list(measured.read_trec_run(io.StringIO("\n".join(distinct))))
    theirs = measured.calc_aggregate(MEASURES, given_qrels, given_run)
    ours, _ = values(qrels, distinct)
    assert ours == {str(measure): pytest.approx(value, abs=1e-9) for measure, value in theirs.items()}


CHUNKS = st.dictionaries(st.tuples(IDS, st.integers(0, 3)), TIED, max_size=30)


@LAW
@given(CHUNKS, st.dictionaries(IDS, st.integers(0, 3), min_size=1))
def test_a_document_of_many_chunks_gains_once(chunks: dict[tuple[str, int], float], grades: dict[str, int]) -> None:
    hits = tuple(Hit(Chunk(f"{doc}#{number}", doc, "text", 0, 4), value) for (doc, number), value in chunks.items())
    ranking = Ranking(hits, ScoreKind.BM25, StageReport("drawn", n_out=len(hits)))
    documents = collapse(ranking)
    assert len({document.doc_id for document in documents}) == len(documents)
    found = score({"q": grades}, {"q": documents}, MEASURES)
    assert all(0.0 <= value <= 1.0 + 1e-9 for value in found.values.values())
