"""Answers, citations and contexts: values one counts by hand, and the law that ties them together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.answer_measures import contained, exact_match, mean, normal, score_answer, token_f1

WORDS = st.lists(st.sampled_from(["the", "cat", "Cat!", "sat", "on", "a", "mat.", ""]), max_size=6).map(" ".join)


def test_words_are_compared_without_case_punctuation_and_articles() -> None:
    assert normal("The  Cat's (an) answer, a theory.") == ["cats", "answer", "theory"]
    assert exact_match("the Eiffel-Tower", "Eiffel Tower") == 0.0  # SQuAD joins what punctuation parts
    assert exact_match("An answer!", "answer") == 1.0


def test_f1_by_hand() -> None:
    """Common: cat, sat; precision 2/3, recall 2/4: 2 * 2 / (3 + 4)."""
    assert token_f1("the cat sat down", "cat cat sat here") == pytest.approx(4 / 7)
    assert token_f1("", "cat") == 0.0
    assert token_f1("the", "a") == 1.0  # nothing is left of either


def test_containing_means_the_words_in_a_row() -> None:
    assert contained("It is in New York City.", "new york") == 1.0
    assert contained("york is not new", "new york") == 0.0
    assert contained("newyork", "york") == 0.0


@given(WORDS, WORDS)
def test_a_match_is_an_f1_of_one_and_f1_is_symmetric(one: str, two: str) -> None:
    assert token_f1(one, two) == token_f1(two, one)
    assert 0.0 <= token_f1(one, two) <= 1.0
    if exact_match(one, two):
        assert token_f1(one, two) == contained(one, two) == 1.0


def test_the_best_of_several_known_answers_counts() -> None:
    scores = score_answer("Roma", ["Rome", "Roma"])
    assert (scores.exact, scores.f1, scores.contains, scores.abstained) == (1.0, 1.0, 1.0, 0.0)


def test_no_answer_is_right_where_there_is_none_and_wrong_elsewhere() -> None:
    right, wrong, bold = score_answer(None, []), score_answer(None, ["Rome"]), score_answer("Rome", [])
    assert (right.exact, right.f1, right.abstained) == (1.0, 1.0, 1.0)
    assert (wrong.exact, wrong.f1, wrong.contains, wrong.abstained) == (0.0, 0.0, 0.0, 1.0)
    assert (bold.exact, bold.f1, bold.abstained) == (0.0, 0.0, 0.0)


def test_citations_and_context_by_hand() -> None:
    scores = score_answer("x", ["x"], cited=["a", "a", "z"], context=["a", "b", "y", "z"], gold=["a", "b", "c"])
    assert scores.citation_precision == 1 / 2
    assert scores.citation_recall == 1 / 3
    assert scores.support_recall == 2 / 3
    assert scores.context_precision == 2 / 4


def test_shares_of_nothing_have_no_value_and_no_part_in_a_mean() -> None:
    scores = score_answer("x", ["x"], gold=["a"])
    assert (scores.citation_precision, scores.context_precision) == (None, None)
    assert (scores.citation_recall, scores.support_recall) == (0.0, 0.0)
    assert mean([1.0, None, 0.0]) == (0.5, 2)
    assert mean([None]) == (0.0, 0)
