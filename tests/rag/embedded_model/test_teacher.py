"""Soft targets: what BM25 and a text encoder think of the passages of a list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from indexes.encoding import Matrix
from rag.embedded_model.examples import Example
from rag.embedded_model.schedule import examples_of
from rag.embedded_model.teacher import MADE, REAL, TEMPERATURE, Teacher, targets
from rag.encoders import SentenceEncoder
from tests.rag.embedded_model.worlds import source, writer


class _Letters(SentenceEncoder):
    """Texts are alike that have the same letters; ``asked`` tells how many texts were encoded."""

    asked = 0

    def encode_passages(self, texts: Sequence[str], progress: object = None) -> Matrix:
        self.asked += len(texts)
        counts = np.array([[text.lower().count(letter) for letter in "etaoinshr"] for text in texts], dtype=np.float32)
        vectors: Matrix = counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1)
        return vectors


def _examples() -> list[Example]:
    return examples_of(source(), writer(), seed=0, step=0, steps=10, tokens=3000)


def test_a_target_is_the_relevant_passages_share_and_what_both_scores_say() -> None:
    # Scores between 0 and 1: (1 + .5) / 2, (0 + 1) / 2, (.5 + 0) / 2
    weights = [math.exp(score / TEMPERATURE) for score in (0.75, 0.5, 0.25)]
    expected = [0.7 * weight / sum(weights) for weight in weights]
    expected[1] += 0.3
    assert targets([9.0, 5.0, 7.0], [0.3, 0.5, 0.1], [1], 0.3) == pytest.approx(expected)


def test_equal_scores_say_nothing() -> None:
    assert targets([1.0, 1.0], [0.2, 0.2], [0], 0.5) == pytest.approx((0.75, 0.25))


def test_every_list_that_asks_gets_targets_and_nothing_else_changes(tmp_path: Path) -> None:
    before = _examples()
    after = Teacher(source(), tmp_path, _Letters()).judged(before)
    assert [each.ids for each in after] == [each.ids for each in before]
    assert any(each.asked for each in before)
    for each in after:
        if each.asked is None:
            assert each.wanted == ()
        else:
            for query, (wanted, relevant) in enumerate(zip(each.wanted, each.relevant, strict=True)):
                assert len(wanted) == len(each.spans)
                assert sum(wanted) == pytest.approx(1.0)
                assert wanted[relevant[0]] >= (REAL if each.asked.real and not query else MADE)


def test_places_are_those_of_the_shown_passages() -> None:
    for each in _examples():
        if each.asked is not None:
            passages = source().corpora[each.asked.corpus].passages
            for text, place in zip(each.asked.texts, each.asked.places, strict=True):
                assert " ".join(text.split()[-6:]).rstrip(".") in " ".join(passages[place].shown.split())


def test_passages_are_encoded_once(tmp_path: Path) -> None:
    first, second = _Letters(), _Letters()
    examples = _examples()
    wanted = [each.wanted for each in Teacher(source(), tmp_path, first).judged(examples)]
    assert [each.wanted for each in Teacher(source(), tmp_path, second).judged(examples)] == wanted
    assert first.asked - second.asked == len(source().corpora[0].passages)
