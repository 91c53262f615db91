"""Queries are asked once each; chunks become documents, a query's own document goes, and only then is it cut."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Barrier

import pytest

from eval.asking import Found, collapse, through_library
from eval.kept_rows import KeptRows
from eval.measures import parse_measures, score
from eval.run import Evaluated, percentile
from eval.run import evaluate as run_all
from eval.trec import Scored
from rag.errors import InvalidInput
from rag.pipeline import Pipeline
from rag.values import Query, StageReport
from tests.eval.conftest import canned_pipeline


def evaluate(pipeline: Pipeline, queries: dict[str, str], depth: int, fetch: int | None = None) -> Evaluated:
    return run_all(through_library(pipeline), queries, depth, fetch=fetch)


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


class Broken(RuntimeError):
    """What ends a run in these tests."""


def found(query: Query, k: int) -> Found:
    return Found((Scored(f"d{len(query.text)}", 1.5),), 0.25, (StageReport("made", 0.1, None, 1, 3, "late"),))


def test_a_broken_run_goes_on_with_the_queries_that_have_no_row(tmp_path: Path) -> None:
    queries, asked = {"a": "1", "b": "22", "c": "333"}, list[str]()

    def breaking(query: Query, k: int) -> Found:
        if query.id == "c" and "c" not in asked:
            asked.append("c")
            raise Broken
        if query.id:
            asked.append(query.id)
        return found(query, k)

    with pytest.raises(Broken):
        run_all(breaking, queries, 5, kept=KeptRows(tmp_path / "rows", "x"))
    again = run_all(breaking, queries, 5, kept=KeptRows(tmp_path / "rows", "x"))
    assert asked == ["a", "b", "c", "c"]
    whole = run_all(found, queries, 5)
    assert (again.run, again.stage_seconds, again.work) == (whole.run, whole.stage_seconds, whole.work)
    assert (again.resumed, whole.resumed, again.degraded) == (2, 0, 3)
    done = run_all(breaking, queries, 5, kept=KeptRows(tmp_path / "rows", "x"))
    assert (done.run, done.resumed) == (whole.run, 3)
    assert len(asked) == 4


def test_rows_of_another_pipeline_are_refused_and_begun_anew_only_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    run_all(found, {"a": "1"}, 5, kept=KeptRows(file, "x"))
    with pytest.raises(InvalidInput, match=r"another pipeline.*--fresh"):
        KeptRows(file, "y")
    assert KeptRows(file, "y", fresh=True).rows == {}
    assert KeptRows(file, "y").rows == {}
    (tmp_path / "notes").write_text("mine\n")
    with pytest.raises(InvalidInput, match="holds no kept rows"):
        KeptRows(tmp_path / "notes", "y", fresh=True)
    assert (tmp_path / "notes").read_text() == "mine\n"


@pytest.mark.parametrize("jobs", [2, 7])
def test_the_run_does_not_depend_on_how_many_queries_are_asked_at_once(jobs: int) -> None:
    queries = {f"q{number}": "x" * number for number in range(1, 40)}
    together = Barrier(2)

    def slow(query: Query, k: int) -> Found:
        if query.id in ("q1", "q2"):
            together.wait(timeout=10)  # both have to be under way
        time.sleep(0.001 * (hash(query.id) % 5))
        return found(query, k)

    at_once, one = run_all(slow, queries, 3, jobs=jobs), run_all(found, queries, 3)
    assert list(at_once.run.items()) == list(one.run.items())
    assert (at_once.concurrency, one.concurrency) == ([jobs], [1])


def test_the_first_error_ends_a_run_of_many_and_what_was_found_is_kept(tmp_path: Path) -> None:
    def breaking(query: Query, k: int) -> Found:
        if query.id == "q3":
            raise Broken
        return found(query, k)

    kept = KeptRows(tmp_path / "rows", "x")
    with pytest.raises(Broken):
        run_all(breaking, {f"q{number}": "x" for number in range(500)}, 3, jobs=2, kept=kept)
    assert len(kept.rows) < 499
    assert "q3" not in KeptRows(tmp_path / "rows", "x").rows
