"""Fast-Forward's looked-up dense scores against a full dense search, and the formula spelled out."""

from __future__ import annotations

import numpy as np
import pytest

from indexes.collection import Collection
from rag.encoders import SentenceEncoder
from rag.errors import InvalidQuery
from rag.retrieval.bm25 import Bm25
from rag.retrieval.dense import Dense
from rag.retrieval.fast_forward import FastForward
from rag.values import Query

QUERIES = ("How tall is the lighthouse of Vendel?", "goats milk sea caves", "tide tables harbour office")


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("text", QUERIES)
def test_equals_the_formula_over_a_full_dense_search(
    small: Collection, encoder: SentenceEncoder, text: str, alpha: float
) -> None:
    """alpha * BM25 + (1 - alpha) * 30 * cosine, for BM25's 25 best and no other."""
    sparse = {hit.chunk.id: hit.score for hit in Bm25(small).retrieve(Query(text), 25)}
    dense = {hit.chunk.id: hit.score for hit in Dense(small, encoder).retrieve(Query(text), 10_000)}
    expected = {one: alpha * score + (1 - alpha) * 30.0 * dense[one] for one, score in sparse.items()}
    found = FastForward(small, encoder, alpha, depth=25).retrieve(Query(text), 25)
    assert {hit.chunk.id: hit.score for hit in found} == pytest.approx(expected, abs=1e-4)


def test_alpha_1_is_bm25_and_its_provenance(small: Collection, encoder: SentenceEncoder) -> None:
    found = FastForward(small, encoder, 1.0, depth=25).retrieve(Query(QUERIES[0]), 10)
    bm25 = Bm25(small).retrieve(Query(QUERIES[0]), 25)
    assert [hit.chunk.id for hit in found] == [hit.chunk.id for hit in bm25][:10]
    assert [hit.score for hit in found.inputs[0]] == [hit.score for hit in bm25]


def test_a_k_above_the_depth_is_refused(small: Collection, encoder: SentenceEncoder) -> None:
    """It would bring in other candidates, and the first of them could outrank what was shown before."""
    with pytest.raises(InvalidQuery, match=r"k = 26 is above this pipeline's depth of 25; .* set depth = 26"):
        FastForward(small, encoder, depth=25).retrieve(Query("goats"), 26)


def test_dense_scores_are_the_cosines_of_all_chunks(small: Collection, encoder: SentenceEncoder) -> None:
    """Against numpy over every chunk, read back from the collection."""
    found = Dense(small, encoder).retrieve(Query(QUERIES[1]), 10_000)
    vectors = encoder.encode_passages([hit.chunk.content for hit in found])
    expected = np.clip(vectors @ encoder.encode_query(QUERIES[1]), -1, 1)
    assert np.allclose([hit.score for hit in found], expected, atol=2e-3)
    assert len(found) == small.status().chunks
