"""Fusion against slow, plain versions written from the papers, and numbers a reader can redo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rag.fusion import Normalization, interpolate, reciprocal_rank, weighted_sum
from rag.retrieval.composite import Fuse, Fused
from rag.values import Chunk, Hit, Query, Ranking, ScoreKind, StageReport

Scores = dict[str, float]

ids = st.text("abcdefgh", min_size=1, max_size=2)
scores = st.floats(-50, 50).map(lambda x: round(x, 3))
rankings = st.lists(st.dictionaries(ids, scores, max_size=8), min_size=1, max_size=4)
normalizations = st.sampled_from(["minmax", "zscore", "theoretical"])
FLOOR = -60.0


def weights_for(inputs: Sequence[Scores]) -> list[float]:
    return [1.0 + i / 2 for i in range(len(inputs))]


def fuse(inputs: Sequence[Scores], weights: Sequence[float], how: str) -> dict[str, float]:
    if how == "rrf":
        return reciprocal_rank(inputs, weights)
    normalization: Normalization = how  # type: ignore[assignment]
    return weighted_sum(inputs, weights, normalization, [FLOOR] * len(inputs))


# --- the plain versions ---


def plain_rrf(inputs: Sequence[Scores], weights: Sequence[float]) -> dict[str, float]:
    """A chunk's rank is 1 + how many stand before it."""
    fused = {}
    for one in {chunk for ranking in inputs for chunk in ranking}:
        fused[one] = sum(
            weight / (60 + 1 + sum((-ranking[other], other) < (-ranking[one], one) for other in ranking))
            for ranking, weight in zip(inputs, weights, strict=True)
            if one in ranking
        )
    return fused


def plain_normal(ranking: Scores, one: str, how: str) -> float:
    values = list(ranking.values())
    low, high = min(values), max(values)
    if how == "theoretical":
        return 0.0 if high <= FLOOR else (max(ranking[one], FLOOR) - FLOOR) / (high - FLOOR)
    if how == "minmax":
        return 1.0 if low == high else (ranking[one] - low) / (high - low)
    if low == high:
        return 0.5
    mean = sum(values) / len(values)
    z = (ranking[one] - mean) / math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    return 1 / (1 + math.exp(-z))


def plain_sum(inputs: Sequence[Scores], weights: Sequence[float], how: str) -> dict[str, float]:
    return {
        one: sum(w * plain_normal(r, one, how) for r, w in zip(inputs, weights, strict=True) if one in r)
        for one in {chunk for ranking in inputs for chunk in ranking}
    }


@given(rankings)
def test_reciprocal_rank_equals_its_plain_version(inputs: list[Scores]) -> None:
    weights = weights_for(inputs)
    assert fuse(inputs, weights, "rrf") == pytest.approx(plain_rrf(inputs, weights), rel=1e-12)


@given(rankings, normalizations)
def test_weighted_sum_equals_its_plain_version(inputs: list[Scores], how: str) -> None:
    weights = weights_for(inputs)
    assert fuse(inputs, weights, how) == pytest.approx(plain_sum(inputs, weights, how), rel=1e-9, abs=1e-12)


# --- laws ---

every_fuse = st.sampled_from(["rrf", "minmax", "zscore", "theoretical"])


@given(rankings, every_fuse)
def test_the_order_of_the_inputs_does_not_matter(inputs: list[Scores], how: str) -> None:
    weights = weights_for(inputs)
    expected = fuse(inputs, weights, how)
    assert fuse(inputs[::-1], weights[::-1], how) == pytest.approx(expected, rel=1e-12)
    turned = [dict(reversed(ranking.items())) for ranking in inputs]
    assert fuse(turned, weights, how) == pytest.approx(expected, rel=1e-12)


@given(rankings, st.sampled_from(["rrf", "minmax", "zscore"]), st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_scale_of_a_retriever_does_not_matter(inputs: list[Scores], how: str, factor: float) -> None:
    """Powers of two, so that nothing is rounded: 4 * BM25 fuses as BM25 does."""
    weights = weights_for(inputs)
    scaled = [{chunk: factor * score for chunk, score in inputs[0].items()}, *inputs[1:]]
    assert fuse(scaled, weights, how) == pytest.approx(fuse(inputs, weights, how), rel=1e-9, abs=1e-12)


@given(rankings, every_fuse)
def test_inputs_are_not_changed(inputs: list[Scores], how: str) -> None:
    before = deepcopy(inputs)
    fuse(inputs, weights_for(inputs), how)
    assert inputs == before


@given(rankings, st.dictionaries(ids, scores, min_size=1, max_size=8), every_fuse)
def test_being_found_by_one_more_retriever_never_costs_a_chunk_anything(
    inputs: list[Scores], more: Scores, how: str
) -> None:
    """A missing chunk adds 0; one that is there adds 0 or more."""
    weights = weights_for(inputs)
    without, having = fuse(inputs, weights, how), fuse([*inputs, more], [*weights, 1.0], how)
    for chunk in having:
        assert having[chunk] >= without.get(chunk, 0.0)
        assert chunk in more or having[chunk] == without[chunk]


@given(st.floats(-1e3, 1e3), st.integers(1, 12))
def test_equal_scores_fuse_equally_however_their_mean_is_rounded(score: float, n: int) -> None:
    equal = {f"c{i}": score for i in range(n)}
    assert set(weighted_sum([equal], [1.0], "zscore").values()) == {0.5}
    assert set(weighted_sum([equal], [1.0], "minmax").values()) == {1.0}


def test_a_score_below_the_floor_counts_as_the_floor() -> None:
    """Fast-Forward gives negative sums where a cosine is negative."""
    assert weighted_sum([{"a": 4.0, "b": -2.0}], [1.0], "theoretical", [0.0]) == {"a": 4 / 4, "b": 0.0}


# --- a chunk's score does not depend on the page ---


class Listed:
    """A retriever over a fixed list: the k best of it."""

    def __init__(self, found: Scores, kind: ScoreKind) -> None:
        self.found, self.kind = found, kind

    def retrieve(self, query: Query, k: int) -> Ranking:
        best = sorted(self.found, key=lambda one: (-self.found[one], one))[:k]
        hits = tuple(Hit(Chunk(one, one, one, 0, len(one)), self.found[one]) for one in best)
        return Ranking(hits, self.kind, StageReport("listed", n_out=len(hits)))

    def retrieve_many(self, queries: Sequence[Query], k: int) -> list[Ranking]:
        return [self.retrieve(query, k) for query in queries]


many = st.dictionaries(st.integers(0, 200).map(lambda n: f"c{n:03d}"), scores, min_size=1, max_size=120)


@given(many, many, every_fuse)
def test_a_fused_score_is_the_same_on_a_page_of_5_and_of_50(sparse: Scores, dense: Scores, how: Fuse) -> None:
    cosines = {one: score / 50 for one, score in dense.items()}
    retrievers = (Listed(sparse, ScoreKind.BM25), Listed(cosines, ScoreKind.COSINE))
    fused = Fused(retrievers=retrievers, weights=(0.5, 0.5), fuse=how, depth=60)
    small, large = fused.retrieve(Query("q"), 5), fused.retrieve(Query("q"), 50)
    assert [(h.chunk.id, h.score) for h in small] == [(h.chunk.id, h.score) for h in large][:5]
    assert all(0.0 <= large.relevance(hit) <= 1.0 for hit in large)


# --- numbers to redo by hand ---

BM25 = {"a": 9.0, "b": 6.0, "c": 3.0}
DENSE = {"c": 0.8, "d": 0.6, "e": 0.5}


def test_rrf_by_hand() -> None:
    """c is third for BM25 and first for the vectors."""
    fused = reciprocal_rank([BM25, DENSE], [1.0, 1.0])
    assert fused["c"] == 1 / (60 + 3) + 1 / (60 + 1)
    assert fused["a"] == 1 / (60 + 1)
    assert fused["d"] == 1 / (60 + 2)
    assert reciprocal_rank([BM25, DENSE], [0.2, 0.8], c=10)["c"] == 0.2 / (10 + 3) + 0.8 / (10 + 1)


def test_rrf_ranks_equal_scores_by_id() -> None:
    assert reciprocal_rank([{"y": 1.0, "x": 1.0}], [1.0]) == {"x": 1 / (60 + 1), "y": 1 / (60 + 2)}


def test_minmax_by_hand() -> None:
    fused = weighted_sum([BM25, DENSE], [0.4, 0.6], "minmax")
    assert fused == pytest.approx({
        "a": 0.4 * (9 - 3) / (9 - 3),
        "b": 0.4 * (6 - 3) / (9 - 3),
        "c": 0.4 * 0 + 0.6 * 1,
        "d": 0.6 * (0.6 - 0.5) / (0.8 - 0.5),
        "e": 0.0,
    })  # fmt: skip


def test_zscore_by_hand() -> None:
    """Mean 6, variance (9 + 0 + 9) / 3 = 6, squashed by 1 / (1 + e^-z)."""
    fused = weighted_sum([BM25], [1.0], "zscore")
    assert fused == pytest.approx({
        "a": 1 / (1 + math.exp(-3 / math.sqrt(6))),
        "b": 0.5,
        "c": 1 / (1 + math.exp(3 / math.sqrt(6))),
    })  # fmt: skip


def test_theoretical_by_hand() -> None:
    """BM25 starts at 0, the cosine at -1."""
    fused = weighted_sum([BM25, DENSE], [0.5, 0.5], "theoretical", [0.0, -1.0])
    assert fused == pytest.approx({
        "a": 0.5 * 9 / 9,
        "b": 0.5 * 6 / 9,
        "c": 0.5 * 3 / 9 + 0.5 * 1.8 / 1.8,
        "d": 0.5 * 1.6 / 1.8,
        "e": 0.5 * 1.5 / 1.8,
    })  # fmt: skip


def test_interpolation_by_hand() -> None:
    assert interpolate({"a": 10.0}, {"a": 4.0, "unseen": 9.0}, 0.25) == {"a": 0.25 * 10 + 0.75 * 4}


@given(st.lists(scores, min_size=1, max_size=6))
def test_one_ranking_fused_alone_keeps_its_order(values: list[float]) -> None:
    assume(len(set(values)) == len(values))
    ranking = {f"c{i}": value for i, value in enumerate(values)}
    order = sorted(ranking, key=lambda one: -ranking[one])
    for how in ("rrf", "minmax", "zscore", "theoretical"):
        fused = fuse([ranking], [1.0], how)
        assert sorted(fused, key=lambda one: -fused[one]) == order
