"""Runs and judgements are read as trec_eval reads them, and written so that every reader keeps the order."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from eval.trec import Scored, format_run, parse_qrels, parse_run, single
from rag.errors import InvalidInput


def ids(lines: list[str]) -> list[str]:
    """Document ids of the run's only query, best first."""
    (documents,) = parse_run(lines, "run").values()
    return [document.doc_id for document in documents]


def test_scores_decide_and_ranks_do_not() -> None:
    assert ids(["q Q0 a 1 0.5 t", "q Q0 b 2 0.9 t"]) == ["b", "a"]


def test_ties_fall_by_document_id_as_in_trec_eval() -> None:
    assert ids(["q Q0 a 1 1.0 t", "q Q0 c 2 1.0 t", "q Q0 b 3 1.0 t"]) == ["c", "b", "a"]


def test_scores_equal_in_single_precision_are_a_tie() -> None:
    assert ids(["q Q0 a 1 1.00000000002 t", "q Q0 b 2 1.00000000001 t"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("q Q0 a 1 0.5", "line 3: 5 columns instead of 6"),
        ("q Q0 a b 1 0.5 t", "line 3: 7 columns instead of 6"),
        ("q Q0 a 1 high t", "line 3: the score 'high' is no number"),
        ("q Q0 a 1 nan t", "line 3: the score 'nan' is not finite"),
        ("q Q0 x 9 0.1 t", "line 3: document 'x' comes twice for query 'q'"),
    ],
)
def test_a_malformed_line_is_named_by_its_number(bad: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=f"my.run, {says}"):
        parse_run(["q Q0 x 1 0.7 t", "", bad], "my.run")


def test_the_same_document_may_come_for_two_queries() -> None:
    assert set(parse_run(["q Q0 a 1 1 t", "p Q0 a 1 1 t"], "run")) == {"q", "p"}


def test_judgements_in_both_forms_are_the_same() -> None:
    trec = ["q 0 a 2", "q 0 b -1", "p 0 a 0"]
    beir = ["query-id\tcorpus-id\tscore", "q\ta\t2", "q\tb\t-1", "p\ta\t0"]
    assert parse_qrels(trec, "f") == parse_qrels(beir, "f") == {"q": {"a": 2, "b": -1}, "p": {"a": 0}}


def test_beir_judgements_keep_ids_with_blanks() -> None:
    assert parse_qrels(["my query\tmy doc\t1"], "f") == {"my query": {"my doc": 1}}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["q 0 a 1", "q 0 a"], "line 2: 'q 0 a' is no judgement"),
        (["q 0 a yes"], "line 1: the grade 'yes' is no whole number"),
        (["q 0 a 1", "q 0 a 2"], "line 2: 'q' 'a' is judged twice"),
        ([], "holds no judgement"),
        (["query-id\tcorpus-id\tscore"], "holds no judgement"),
    ],
)
def test_malformed_judgements_are_refused(lines: list[str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_qrels(lines, "f")


def test_written_ranks_count_from_one() -> None:
    lines = list(format_run({"q": [Scored("a", 2.5), Scored("b", 0.1)]}, "tag"))
    assert lines == ["q Q0 a 1 2.5 tag\n", "q Q0 b 2 0.100000001 tag\n"]


@pytest.mark.parametrize("broken", ["a b", "a\tb", "", "a\u00a0b"])
def test_ids_that_a_run_cannot_hold_are_refused(broken: str) -> None:
    with pytest.raises(InvalidInput, match="white space"):
        list(format_run({"q": [Scored(broken, 1.0)]}, "t"))
    with pytest.raises(InvalidInput, match="white space"):
        list(format_run({broken: [Scored("a", 1.0)]}, "t"))


SCORES = st.one_of(
    st.floats(-100, 100), st.sampled_from([0.0, -0.0, 1.0, 1.0000000001, 5e-324, 1e-45, -1e-45, 3e38, 1e300])
)


@given(st.lists(SCORES, max_size=40), st.randoms())
def test_a_written_run_read_again_keeps_its_order_through_any_ties(
    scores: list[float], shuffled: random.Random
) -> None:
    names = [f"d{number}" for number in range(len(scores))]
    shuffled.shuffle(names)
    documents = [Scored(name, score) for name, score in zip(names, sorted(scores, reverse=True), strict=True)]
    lines = list(format_run({"q": documents}, "t"))
    assert [line.split()[2] for line in lines] == names
    read = parse_run(lines, "run").get("q", ())
    assert [document.doc_id for document in read] == names
    written = [document.score for document in read]
    assert all(above > below for above, below in pairwise(written))


def test_trec_eval_itself_sees_the_written_order() -> None:
    """Ten tied documents, only the last in our order relevant: its reciprocal rank is 1/10 whichever id it has."""
    for last in ("a", "z"):
        names = [f"m{number}" for number in range(9)] + [last]
        lines = format_run({"q": [Scored(name, 7.25) for name in names]}, "t")
        run = {"q": {line.split()[2]: float(line.split()[4]) for line in lines}}
        found = pytrec_eval.RelevanceEvaluator({"q": {last: 1}}, {"recip_rank"}).evaluate(run)
        assert found["q"]["recip_rank"] == pytest.approx(1 / 10)


def test_single_rounds_as_a_32_bit_float_does() -> None:
    assert single(0.1) == 0.10000000149011612
    assert single(1e300) == 3.4028234663852886e38
