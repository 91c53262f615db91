"""What titles say of a question and of other chunks."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from rag.selection.titles import BRIDGE, links, name_of, named

TITLES = ("Mercury (planet)", "Tarbet", "Tarbet Harbour", "Oban", "")
TEXTS = (
    "Mercury is a planet",
    "Tarbet lies between Oban and the lake",
    "A harbour office in TARBET sells tickets to Oban",
    "Oban, a town",
    "obanite is a stone of Mercury",
)
RELEVANCE = np.array([0.2, 1.0, 0.6, 0.4, 0.8])


def test_a_name_is_the_title_without_its_qualifier_in_brackets() -> None:
    assert [name_of(title) for title in TITLES] == ["mercury", "tarbet", "tarbet harbour", "oban", ""]
    assert name_of("(500) Days of Summer (film)") == "500 days of summer"


@pytest.mark.parametrize("title", ["It", "The Who", "42", "X (band)", "...", ""])
def test_a_title_that_would_be_found_anywhere_is_no_name(title: str) -> None:
    assert name_of(title) == ""


def test_a_question_names_titles_whole_words_only_and_the_longest() -> None:
    """ "Tarbet" stands within "Tarbet Harbour"; "obanite" is not Oban."""
    weights, matches = named("Is obanite, of MERCURY, sold at Tarbet Harbour?", TITLES)
    assert weights.tolist() == [1.0, 1.0]
    assert matches.tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]]
    assert [array.shape for array in named("what?", TITLES)] == [(0,), (0, 5)]


def test_chunks_of_one_document_share_its_name() -> None:
    assert named("Where is Oban?", ("Oban", "Tarbet", "Oban"))[1].tolist() == [[1, 0, 1]]


def test_a_link_is_a_name_in_another_text_that_the_question_lacks() -> None:
    """Of five texts Oban stands in 1 and 2: IDF log(1 + 3.5/2.5) / log(1 + 4.5/1.5), as relevant as they are;
    Mercury in 4 and Tarbet in 2 alone: 1. The question holds Tarbet Harbour, and with it Tarbet."""
    strength = links("Where is the lake?", TITLES, TEXTS, RELEVANCE)
    two = log(1 + 3.5 / 2.5) / log(4.0)
    expected = np.zeros((5, 5))
    for i, j, value in ((1, 3, two), (2, 3, 0.6 * two), (4, 0, 0.8), (2, 1, 0.6)):
        expected[i, j] = expected[j, i] = BRIDGE * value
    assert strength == pytest.approx(expected)
    asked = links("Where is Tarbet Harbour?", TITLES, TEXTS, RELEVANCE)
    expected[2, 1] = expected[1, 2] = 0.0
    assert asked == pytest.approx(expected)


def test_a_text_does_not_lead_to_its_own_document() -> None:
    assert not links("Where?", ("Oban", "Oban"), ("Oban lies there", "Oban is old"), np.ones(2)).any()
