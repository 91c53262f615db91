"""Measures agree with sums done by hand, and follow the rules that change numbers."""

from __future__ import annotations

from math import log2
from pathlib import Path

import pytest

from eval.commands import score_run
from eval.measures import parse_measures, score
from eval.trec import Scored
from rag.errors import InvalidInput
from tests.data import shared_data


def ranked(*doc_ids: str) -> tuple[Scored, ...]:
    return tuple(Scored(doc_id, 1.0) for doc_id in doc_ids)


def values(qrels: dict[str, dict[str, int]], run: dict[str, tuple[Scored, ...]], metrics: str) -> dict[str, float]:
    return dict(score(qrels, run, parse_measures(metrics)).values)


def test_graded_ndcg_is_the_sum_one_writes_by_hand() -> None:
    qrels = {"q": {"a": 3, "b": 2, "c": 1, "d": 0}}
    gained = 2 / log2(2) + 0 / log2(3) + 3 / log2(4)
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    assert values(qrels, {"q": ranked("b", "x", "a")}, "nDCG@10") == {"nDCG@10": pytest.approx(gained / ideal)}


def test_recall_precision_and_reciprocal_rank_by_hand() -> None:
    qrels = {"q": {"a": 1, "b": 1, "c": 1}}
    found = values(qrels, {"q": ranked("x", "a", "y", "b")}, "R@3 P@4 RR@10 AP Judged@4")
    assert found == {
        "R@3": pytest.approx(1 / 3),
        "P@4": 2 / 4,
        "RR@10": 1 / 2,
        "AP": pytest.approx((1 / 2 + 2 / 4) / 3),
        "Judged@4": 2 / 4,
    }


def test_the_least_grade_that_counts_can_be_chosen() -> None:
    qrels = {"q": {"a": 1, "b": 2}}
    assert values(qrels, {"q": ranked("a")}, "R@10 R(rel=2)@10") == {"R@10": 1 / 2, "R(rel=2)@10": 0.0}


def test_a_judged_query_without_results_scores_zero() -> None:
    qrels = {"q": {"a": 1}, "missing": {"a": 1}}
    assert values(qrels, {"q": ranked("a")}, "nDCG@10 RR@10 R@5") == {"nDCG@10": 0.5, "RR@10": 0.5, "R@5": 0.5}
    found = score(qrels, {"q": ranked("a")}, parse_measures("nDCG@10"))
    assert found.per_query == {"q": {"nDCG@10": 1.0}, "missing": {"nDCG@10": 0.0}}


def test_a_query_without_judgements_counts_for_nothing() -> None:
    assert values({"q": {"a": 1}}, {"q": ranked("a"), "unjudged": ranked("b")}, "nDCG@10") == {"nDCG@10": 1.0}


@pytest.mark.parametrize("metrics", ["RR@10", "RR", "nDCG@10"])
def test_every_measure_sees_the_runs_own_order_through_ties(metrics: str) -> None:
    """ir-measures' providers break ties in opposite ways; neither may show here."""
    first = values({"q": {"a": 1}}, {"q": ranked("a", "m")}, metrics)
    second = values({"q": {"z": 1}}, {"q": ranked("z", "m")}, metrics)
    assert first == second == {metrics: 1.0}


def test_a_document_that_comes_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'q' has a document twice"):
        values({"q": {"a": 1}}, {"q": ranked("a", "a")}, "nDCG@10")


def test_scoring_leaves_what_it_is_given_as_it_was() -> None:
    qrels, run = {"q": {"a": 1}}, {"q": ranked("b", "a")}
    values(qrels, run, "nDCG@10")
    assert (qrels, run) == ({"q": {"a": 1}}, {"q": ranked("b", "a")})


def test_measures_are_separated_by_blanks_and_commas_outside_of_brackets() -> None:
    names = [str(measure) for measure in parse_measures(" nDCG@10, R@100  P(rel=2, judged_only=True)@5")]
    assert names == ["nDCG@10", "R@100", "P(rel=2,judged_only=True)@5"]


@pytest.mark.parametrize("bad", ["", "nDGC@10", "nDCG@", "nDCG(bar=3)@10", "P", "10", "nDCG@0", "StRecall@10"])
def test_what_is_no_measure_is_refused_with_known_ones(bad: str) -> None:
    with pytest.raises(InvalidInput, match=r"nDCG@10|cutoff"):
        parse_measures(bad)


def test_scoring_a_file_reports_unjudged_queries(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 a 1\n")
    (tmp_path / "run").write_text("q Q0 a 1 1 t\nother Q0 a 1 1 t\n")
    scored = score_run(tmp_path / "qrels", tmp_path / "run", "nDCG@10")
    assert (dict(scored.scores.values), scored.unjudged, scored.missing) == ({"nDCG@10": 1.0}, 1, 0)
    assert scored.notes == ["run: 1 queries are not judged and left out, first 'other'"]


def test_a_run_for_another_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 a 1\n")
    (tmp_path / "run").write_text("other Q0 a 1 1 t\n")
    with pytest.raises(InvalidInput, match="do they belong to the same set"):
        score_run(tmp_path / "qrels", tmp_path / "run", "nDCG@10")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BM25", 0.5058),
        ("BM25_RM3", 0.5216),
        ("D_BERT_KD_TASB", 0.7210),
        ("OPEN_AI_ADA2", 0.7035),
        ("SPLADE_P_P_ENSEMBLE_DISTIL", 0.7308),
    ],
)
def test_published_runs_of_trec_dl19_have_their_published_score(name: str, expected: float) -> None:
    pool = shared_data("trec-dl19-pool")
    scored = score_run(pool / "qrels.full.txt", pool / "runs" / f"{name}.trec", "nDCG@10")
    assert (len(scored.scores.per_query), scored.unjudged, scored.missing, scored.notes) == (43, 0, 0, [])
    assert scored.scores.values["nDCG@10"] == pytest.approx(expected, abs=0.00005)


def test_a_run_with_rounded_scores_is_worth_what_trec_eval_says() -> None:
    """RepLLaMA's file holds scores of three digits, so most are ties: .7445 by its ranks, .7384 for trec_eval."""
    pool = shared_data("trec-dl19-pool")
    scored = score_run(pool / "qrels.full.txt", pool / "runs" / "REP_LLAMA.trec", "nDCG@10")
    assert scored.scores.values["nDCG@10"] == pytest.approx(0.7384, abs=0.00005)
