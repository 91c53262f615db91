"""Queries are asked once each; chunks become documents, a query's own document goes, and only then is it cut."""

from __future__ import annotations

import pytest

from eval.measures import parse_measures, score
from eval.run import collapse, evaluate, percentile
from eval.trec import Scored
from rag.values import Query
from tests.eval.conftest import canned_pipeline


def test_a_document_stands_where_its_best_chunk_stands() -> None:
    pipeline, _ = canned_pipeline({"x": [("a", 0, 1.0), ("b", 0, 3.0), ("a", 1, 5.0), ("b", 1, 4.0), ("c", 0, 2.0)]})
    found = evaluate(pipeline, {"q": "x"}, 10)
    assert found.run["q"] == (Scored("a", 5.0), Scored("b", 4.0), Scored("c", 2.0))


def test_ties_of_documents_follow_the_ranking() -> None:
    pipeline, _ = canned_pipeline({"x": [("z", 0, 1.0), ("a", 0, 1.0)]})
    assert [hit.doc_id for hit in collapse(pipeline.retriever.retrieve(Query("x"), 5))] == ["a", "z"]


def test_the_querys_own_document_goes_before_the_cut() -> None:
    pipeline, retriever = canned_pipeline({"x": [("q", 0, 9.0), ("a", 0, 8.0), ("b", 0, 7.0), ("c", 0, 6.0)]})
    found = evaluate(pipeline, {"q": "x"}, 2, fetch=3)
    assert [document.doc_id for document in found.run["q"]] == ["a", "b"]
    assert found.self_hits_removed == 1
    assert retriever.asked[-1] == ("x", 3)
    assert score({"q": {"b": 1}}, found.run, parse_measures("R@2")).values == {"R@2": 1.0}


def test_another_querys_document_stays() -> None:
    pipeline, _ = canned_pipeline({"x": [("other", 0, 9.0)], "y": []})
    found = evaluate(pipeline, {"q": "x", "other": "y"}, 2)
    assert found.run["q"] == (Scored("other", 9.0),)
    assert found.self_hits_removed == 0


def test_each_query_is_asked_once_at_the_depth_after_one_that_is_not_counted() -> None:
    pipeline, retriever = canned_pipeline({})
    found = evaluate(pipeline, {"p": "x", "q": "y"}, 7)
    assert retriever.asked[1:] == [("x", 7), ("y", 7)]
    assert len(found.seconds) == 2


def test_stage_times_are_means_over_queries() -> None:
    pipeline, _ = canned_pipeline({})
    assert evaluate(pipeline, {"p": "x", "q": "y"}, 7).stages == {"canned": 0.25}


def test_a_blank_query_is_not_asked_and_scores_zero() -> None:
    pipeline, _ = canned_pipeline({"x": [("a", 0, 1.0)]})
    found = evaluate(pipeline, {"p": " ", "q": "x"}, 5)
    assert (found.not_asked, "p" in found.run) == (1, False)
    scores = score({"p": {"a": 1}, "q": {"a": 1}}, found.run, parse_measures("nDCG@10"))
    assert scores.values == {"nDCG@10": 0.5}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 2.0), (0.51, 3.0), (0.75, 3.0), (0.95, 4.0), (1.0, 4.0), (0.0, 1.0)]
)
def test_percentiles_are_values_that_were_measured(share: float, expected: float) -> None:
    assert percentile([3.0, 1.0, 4.0, 2.0], share) == expected


def test_the_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 0.5) == 0.0
