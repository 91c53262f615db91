"""Soft targets: what BM25 and a text encoder think of the passages of a list."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rag.embedded_model.teacher import OUT, TEMPERATURE, Teacher, target, unit
from tests.rag.embedded_model.worlds import Letters, source


def test_a_target_is_the_relevant_passages_share_and_what_both_scores_say() -> None:
    # Scores between 0 and 1: (1 + .5) / 2, (0 + 1) / 2, (.5 + 0) / 2
    weights = [math.exp(score / TEMPERATURE) for score in (0.75, 0.5, 0.25)]
    expected = [0.7 * weight / sum(weights) for weight in weights]
    expected[1] += 0.3
    assert target([9.0, 5.0, 7.0], [0.3, 0.5, 0.1], 1, 0.3).tolist() == pytest.approx(expected)


def test_a_passage_that_is_left_out_does_not_stretch_the_others_scores() -> None:
    found = target([9.0, 5.0, 7.0, 6.0], [0.9, 0.5, 0.3, 0.1], 0, 0.3, out=True)
    others = target([5.0, 7.0, 6.0], [0.5, 0.3, 0.1], 0, 0.0)
    assert found.tolist() == pytest.approx([OUT, *others.tolist()])


def test_equal_scores_say_nothing() -> None:
    assert target([1.0, 1.0], [0.2, 0.2], 0, 0.5).tolist() == pytest.approx([0.75, 0.25])
    assert unit([3.0, 3.0]).tolist() == [0.0, 0.0]


def test_passages_and_queries_are_encoded_once(tmp_path: Path) -> None:
    first, second = Letters(), Letters()
    passages = Teacher(source(), tmp_path, first).passages(0)
    queries = Teacher(source(), tmp_path, first).queries(0, ["old ferry", "a cliff"])
    assert passages.shape == (len(source().corpora[0].passages), 9)
    assert np.array_equal(Teacher(source(), tmp_path, second).passages(0), passages)
    assert np.array_equal(Teacher(source(), tmp_path, second).queries(0, ["old ferry", "a cliff"]), queries)
    assert (first.asked, second.asked) == (len(passages) + 2, 0)
