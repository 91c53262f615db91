"""What is read off texts: aspects, clauses, and similarity by MinHash against the Jaccard index."""

from __future__ import annotations

import hashlib
from math import log, sqrt

import numpy as np
import pytest

from rag.selection.features import (
    PERMUTATIONS,
    aspects,
    cosine_similarity,
    minhash_similarity,
    shingles,
    signature,
    subquestions,
    terms,
)

TEXTS = (
    "The ferry to Tarbet leaves every 40 minutes",
    "The ferry to Tarbet leaves every 45 minutes in summer",
    "Tarbet has a harbour office, and tickets",
    "Vellum is calf skin",
)


def test_terms_are_content_words_once() -> None:
    assert terms("How often does THE ferry, the Ferry leave?") == ["often", "ferry", "leave"]
    assert terms("What is this?") == ["what", "is", "this"], "without content words all count"
    assert terms("渡し船 2025_03") == ["渡", "し", "船", "2025", "03"]
    assert terms(" ?! ") == []


def test_aspects_are_the_terms_found_with_their_idf() -> None:
    """ferry is in 2 of 4 texts: log(1 + 2.5/2.5); tickets in 1: log(1 + 3.5/1.5); "price" in none is left out."""
    weights, matches = aspects("ferry tickets price", TEXTS)
    assert weights == pytest.approx([log(2.0), log(1 + 3.5 / 1.5)])
    assert matches.tolist() == [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]


def test_no_term_and_no_text_give_no_aspect() -> None:
    assert [array.shape for array in aspects("price", TEXTS)] == [(0,), (0, 4)]
    assert [array.shape for array in aspects("price", ())] == [(0,), (0, 0)]


def test_clauses_hold_what_a_text_has_of_their_terms() -> None:
    """Terms found: ferry in 0 and 1, summer in 1, calf and skin in 3.

    "which ferry in summer": log(1 + 2.5/2.5) + log(1 + 3.5/1.5); 0 holds ferry of it, 1 both.
    """
    weights, matches = subquestions("Which ferry in summer, and is it calf skin?", TEXTS)
    ferry, rare = log(2.0), log(1 + 3.5 / 1.5)
    assert weights == pytest.approx([ferry + rare, 2 * rare])
    assert matches == pytest.approx(np.array([[ferry / (ferry + rare), 1, 0, 0], [0, 0, 0, 1]]))


def test_a_question_of_one_clause_has_no_clauses() -> None:
    assert [array.shape for array in subquestions("ferry in summer, and price", TEXTS)] == [(0,), (0, 4)]


def jaccard(a: str, b: str) -> float:
    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def test_minhash_estimates_the_jaccard_index_of_word_pairs() -> None:
    similarity = minhash_similarity(TEXTS)
    error = 4 * 0.5 / sqrt(PERMUTATIONS)  # four standard errors at most
    for i, a in enumerate(TEXTS):
        for j, b in enumerate(TEXTS):
            assert similarity[i, j] == pytest.approx(jaccard(a, b), abs=error)
    assert similarity.tolist() == similarity.T.tolist()
    assert np.diag(similarity).tolist() == [1.0] * 4


def test_equal_texts_are_wholly_similar_and_texts_without_words_to_none() -> None:
    similarity = minhash_similarity(["A ferry", "a FERRY!", "ferry", "...", "?"])
    assert similarity[0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert similarity[3].tolist() == [0.0, 0.0, 0.0, 1.0, 0.0]


def test_signature_is_the_least_hash_in_whole_numbers() -> None:
    """Multiply-shift in Python's integers, which do not overflow."""
    draw = np.random.default_rng(0)
    a = [2 * int(x) + 1 for x in draw.integers(0, 2**63, 16, dtype=np.uint64)]
    b = [int(x) for x in draw.integers(0, 2**64, 16, dtype=np.uint64)]
    items = shingles(TEXTS[0])
    keys = [int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest()) for item in items]
    expected = [min(((p * key + q) % 2**64) >> 32 for key in keys) for p, q in zip(a, b, strict=True)]
    assert signature(items, 16).tolist() == expected


def test_cosines_of_unit_rows() -> None:
    rows = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]], dtype=np.float32)
    assert cosine_similarity(rows) == pytest.approx(np.array([[1, 0.6, -1], [0.6, 1, -0.6], [-1, -0.6, 1]]))
