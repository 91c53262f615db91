"""Ranking is the one place that sorts; relevance is comparable within a kind."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.values import Chunk, Hit, Query, Ranking, ScoreKind, StageReport


def hit(chunk_id: str, score: float) -> Hit:
    return Hit(Chunk(chunk_id, chunk_id.split("#", maxsplit=1)[0], "text", 0, 4), score)


def ranking(*hits: Hit, kind: ScoreKind = ScoreKind.BM25, bound: float = 1.0) -> Ranking:
    return Ranking(hits, kind, StageReport("test"), bound=bound)


def test_sorts_by_descending_score_then_ascending_id() -> None:
    found = ranking(hit("b#0", 1.0), hit("a#1", 2.0), hit("a#0", 1.0))
    assert [h.chunk.id for h in found] == ["a#1", "a#0", "b#0"]


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(allow_nan=False)), unique_by=lambda p: p[0]), st.integers(0, 9))
def test_the_order_of_the_hits_given_does_not_matter(pairs: list[tuple[int, float]], turn: int) -> None:
    hits = [hit(f"c{n}#0", score) for n, score in pairs]
    assert ranking(*hits).hits == ranking(*hits[turn:], *hits[:turn]).hits


def test_one_chunk_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="stage 'test' ranked one chunk twice"):
        ranking(hit("a#0", 1.0), hit("a#0", 2.0))


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="stage 'test' gave a score that is not a number"):
        ranking(hit("a#0", 1.0), hit("b#0", math.nan))


def test_is_a_sequence_of_its_hits() -> None:
    found = ranking(hit("a#0", 3.0), hit("b#0", 2.0), hit("c#0", 1.0))
    assert len(found) == 3
    assert found[0] == hit("a#0", 3.0)
    assert found[1:] == (hit("b#0", 2.0), hit("c#0", 1.0))
    assert hit("b#0", 2.0) in found


@given(st.sampled_from(ScoreKind), st.lists(st.floats(-1e6, 1e6), min_size=2), st.sampled_from([0.01, 1.0, 35.0]))
def test_relevance_lies_in_0_to_1_and_never_falls_where_the_score_rises(
    kind: ScoreKind, scores: list[float], bound: float
) -> None:
    if kind is ScoreKind.BM25:
        scores = [abs(score) for score in scores]
    found = ranking(*(hit(f"c{i}#0", score) for i, score in enumerate(scores)), kind=kind, bound=bound)
    relevances = [found.relevance(h) for h in found]
    assert all(0.0 <= relevance <= 1.0 for relevance in relevances)
    assert relevances == sorted(relevances, reverse=True)


def test_relevance_by_hand() -> None:
    one = hit("a#0", 10.0)
    assert ranking(one, kind=ScoreKind.BM25).relevance(one) == 10 / (10 + 10)
    assert ranking(one, kind=ScoreKind.WEIGHTED_SUM, bound=40.0).relevance(one) == 10 / 40
    logit = hit("a#0", math.log(3))
    assert ranking(logit, kind=ScoreKind.SIGMOID_LOGIT).relevance(logit) == pytest.approx(3 / (3 + 1))
    opposite = hit("a#0", -0.3)
    assert ranking(opposite, kind=ScoreKind.COSINE).relevance(opposite) == 0.0
    first_of_two = hit("a#0", 2 / (60 + 1))
    assert ranking(first_of_two, kind=ScoreKind.RRF, bound=2 / (60 + 1)).relevance(first_of_two) == 1.0


def test_stages_come_sources_first() -> None:
    bm25, dense = ranking(), ranking(kind=ScoreKind.COSINE)
    fused = Ranking((), ScoreKind.RRF, StageReport("fusion"), (bm25, dense))
    reranked = Ranking((), ScoreKind.SIGMOID_LOGIT, StageReport("rerank"), (fused,))
    assert list(reranked.stages()) == [bm25, dense, fused, reranked]


def test_what_no_tokenizer_can_read_is_replaced_in_a_question() -> None:
    assert Query("a\x00b \ud800").text == "a\ufffdb \ufffd"
