"""First-stage and reranker's scores added up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rag.reranking.attention import AttentionReranker
from rag.reranking.mixed import MixedReranker
from rag.reranking.pointwise import PointwiseReranker
from rag.runtime.lexical import LexicalReader
from rag.values import Query, Ranking, ScoreKind
from tests.rag.rankings import numbers, ranking_of

QUESTION = Query("old ferry")
TEXTS = ("a cliff", "the ferry", "the old ferry sails", "a puffin", "an old lantern")
INNER = PointwiseReranker(LexicalReader(), kind="likelihood")


def _scores(ranking: Ranking) -> dict[str, float]:
    return {hit.chunk.id: hit.score for hit in ranking}


def _unit(scores: dict[str, float]) -> dict[str, float]:
    low, high = min(scores.values()), max(scores.values())
    return {name: (score - low) / (high - low) for name, score in scores.items()}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_scores_are_the_weighted_sum_of_both_between_0_and_1(share: float) -> None:
    given = ranking_of(*TEXTS)
    first, second = _unit(_scores(given)), _unit(_scores(INNER.rerank(QUESTION, given)))
    mixed = MixedReranker(INNER, share, 5).rerank(QUESTION, given)
    expected = {name: share * first[name] + (1 - share) * second[name] for name in first}
    assert _scores(mixed) == pytest.approx(expected)
    assert mixed.kind is ScoreKind.WEIGHTED_SUM
    assert mixed.report.tokens == INNER.rerank(QUESTION, given).report.tokens > 0


def test_the_ends_are_the_orders_of_either() -> None:
    given = ranking_of(*TEXTS)
    assert numbers(MixedReranker(INNER, 0.0, 5).rerank(QUESTION, given)) == numbers(INNER.rerank(QUESTION, given))
    assert numbers(MixedReranker(INNER, 1.0, 5).rerank(QUESTION, given)) == [0, 1, 2, 3, 4]


def test_hits_behind_the_depth_stay_behind() -> None:
    inner = replace(INNER, depth=3)
    mixed = MixedReranker(inner, 0.2, 3).rerank(QUESTION, ranking_of(*TEXTS))
    assert numbers(mixed)[3:] == [3, 4]
    assert set(numbers(mixed)[:3]) == {0, 1, 2}


def test_passages_that_nobody_ranked_are_left_to_the_reranker() -> None:
    given = ranking_of(*TEXTS)
    equal = replace(given, hits=tuple(replace(hit, score=1.0) for hit in given.hits))
    assert numbers(MixedReranker(INNER, 0.9, 5).rerank(QUESTION, equal)) == numbers(INNER.rerank(QUESTION, equal))


def test_nothing_to_rank_and_nothing_to_tell_apart() -> None:
    assert numbers(MixedReranker(INNER, 0.5, 5).rerank(QUESTION, replace(ranking_of("x"), hits=()))) == []
    attention = MixedReranker(AttentionReranker(LexicalReader()), 0.5, 5)
    assert numbers(attention.rerank(QUESTION, ranking_of("", "", ""))) == [0, 1, 2]
