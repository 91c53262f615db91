"""Pairwise ranking prompting: the preference of two orders, and what rankings come of it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import get_args

import pytest

from rag.reranking import prompts
from rag.reranking.comparing import Memo
from rag.reranking.pairwise import Judge, PairwiseReranker, Sort, by_input_rank, preference
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Meter
from rag.values import Query, ScoreKind
from tests.rag.rankings import (
    Script,
    ScriptedReader,
    by_number,
    first_shown,
    not_a_number,
    numbers,
    ranking_of,
)

SORTS = get_args(Sort)
ASKED = Query("q")


def shuffled(n: int, seed: int = 0) -> list[int]:
    return random.Random(seed).sample(range(n), n)


# --- the preference ---


@pytest.mark.parametrize(
    ("shown", "swapped", "expected"),
    [
        (2.0, 4.0, math.tanh((2 + 4) / 4)),
        (-2.0, -4.0, -math.tanh((2 + 4) / 4)),
        (1.0, -9.0, 0.0),
        (0.0, 3.0, 0.0),
        (math.nan, 3.0, 0.0),
        (1000.0, math.inf, 1.0),
    ],
)
def test_a_passage_wins_where_both_orders_prefer_it(shown: float, swapped: float, expected: float) -> None:
    assert preference(shown, swapped) == pytest.approx(expected)
    assert preference(-shown, -swapped) == -preference(shown, swapped)


def test_the_judge_asks_both_orders_of_all_pairs_at_once_and_keeps_the_margins() -> None:
    reader = ScriptedReader(by_number)
    passages = reader.tokenizer.encode_many(["text 1", "text 2", "text 9"])
    judge = Judge(reader, prompts.pairwise(reader, "q"), passages, meter := Meter())
    found = judge([(0, 1), (2, 0)])
    assert found == pytest.approx([math.tanh((0.1 - 0.2) / 2), math.tanh((0.9 - 0.1) / 2)], abs=1e-6)
    assert judge.margins == {(0, 1): pytest.approx(-0.1), (2, 0): pytest.approx(0.8)}
    assert reader.shown == [["text 1", "text 2"], ["text 2", "text 1"], ["text 9", "text 1"], ["text 1", "text 9"]]
    assert meter.passes == 5  # query, its two sides and the four first passages, level by level, then the tails


def test_the_order_of_a_pair_turns_the_sign() -> None:
    def biased(shown: list[str]) -> list[float]:
        return [score + 0.3 * place for place, score in enumerate(by_number(shown))]

    reader = ScriptedReader(biased)
    passages = reader.tokenizer.encode_many(["text 1", "text 3", "text 9"])
    judge = Judge(reader, prompts.pairwise(reader, "q"), passages, Meter())
    there, back = judge([(0, 2), (0, 1)]), judge([(2, 0), (1, 0)])
    assert there == pytest.approx([-u for u in back])
    assert there[0] < 0 == there[1]  # 0.2 apart is less than the bias of 0.3, so the orders disagree


def test_ties_go_to_the_better_input_rank() -> None:
    assert [math.copysign(1, u) for u in by_input_rank(lambda pairs: [0.0] * len(pairs))([(0, 3), (3, 0)])] == [1, -1]
    assert by_input_rank(lambda pairs: [-0.5] * len(pairs))([(0, 3)]) == [-0.5]


def test_memo_and_judge_agree_on_repeats() -> None:
    reader = ScriptedReader(by_number)
    judge = Judge(reader, prompts.pairwise(reader, "q"), reader.tokenizer.encode_many(["text 1", "text 2"]), Meter())
    memo = Memo(judge)
    assert memo([(0, 1), (1, 0), (0, 1)]) == pytest.approx([-math.tanh(0.05), math.tanh(0.05), -math.tanh(0.05)])
    assert (memo.comparisons, memo.computed, len(reader.shown)) == (3, 1, 2)


# --- rankings ---


@pytest.mark.parametrize("sort", SORTS)
def test_a_perfect_model_gives_the_k_best_and_leaves_the_rest(sort: Sort) -> None:
    texts = [f"text {i}" for i in shuffled(30)]
    found = PairwiseReranker(ScriptedReader(by_number), sort, k=7, depth=25).rerank(ASKED, ranking_of(*texts))
    expected = sorted(range(25), key=lambda i: -int(texts[i].split()[1]))
    top = 25 if sort == "allpair" else 7
    assert numbers(found)[:top] == expected[:top]
    assert numbers(found)[top:] == sorted(expected[top:]) + list(range(25, 30))
    assert not found.report.degraded


@pytest.mark.parametrize("script", [first_shown, lambda shown: [0.0, 0.0], lambda shown: [-1.0, 1.0]])
@pytest.mark.parametrize("sort", SORTS)
def test_a_model_that_sees_only_places_changes_nothing(sort: Sort, script: Script) -> None:
    found = PairwiseReranker(ScriptedReader(script), sort).rerank(ASKED, ranking_of(*"abcdefghijklmnop"))
    assert numbers(found) == list(range(16))


@pytest.mark.parametrize("sort", SORTS)
def test_scores_that_are_no_numbers_decide_nothing_and_are_told(sort: Sort) -> None:
    found = PairwiseReranker(ScriptedReader(not_a_number), sort).rerank(ASKED, ranking_of("a", "b", "c"))
    assert numbers(found) == [0, 1, 2]
    assert "prompts had scores that were not numbers" in found.report.degraded


def test_sorters_score_by_rank_and_allpair_by_wins() -> None:
    texts = ranking_of("text 2", "text 1", "text 3")
    found = PairwiseReranker(ScriptedReader(by_number), "sliding").rerank(ASKED, texts)
    assert ([hit.score for hit in found], found.kind, found.bound) == ([3.0, 2.0, 1.0], ScoreKind.RANK, 3.0)
    found = PairwiseReranker(ScriptedReader(by_number), "allpair").rerank(ASKED, texts)
    assert ([hit.score for hit in found], found.kind, found.bound) == ([2.0, 1.0, 0.0], ScoreKind.WINS, 2.0)


@pytest.mark.parametrize("sort", SORTS)
def test_each_pair_costs_two_prompts_once(sort: Sort) -> None:
    reader = ScriptedReader(by_number)
    found = PairwiseReranker(reader, sort).rerank(ASKED, ranking_of(*[f"text {i}" for i in shuffled(20)]))
    pairs = {(min(shown), max(shown)) for shown in reader.shown}
    assert len(reader.shown) == len({tuple(shown) for shown in reader.shown}) == 2 * len(pairs)
    assert found.report.notes == (f"{len(pairs)} pairs were compared",)


@pytest.mark.parametrize("sort", SORTS)
def test_equal_texts_keep_their_order(sort: Sort) -> None:
    reader = ScriptedReader(by_number)
    found = PairwiseReranker(reader, sort, k=3).rerank(ASKED, ranking_of("text 1", "text 5", "text 5", "text 1"))
    assert numbers(found) == [1, 2, 0, 3]


@pytest.mark.parametrize("sort", SORTS)
def test_passages_without_text_are_never_shown_and_stay_behind(sort: Sort) -> None:
    reader = ScriptedReader(by_number)
    found = PairwiseReranker(reader, sort).rerank(ASKED, ranking_of(" \n", "text 1", "", "text 2"))
    assert numbers(found) == [3, 1, 0, 2]
    assert all(text for shown in reader.shown for text in shown)


@pytest.mark.parametrize("texts", [(), ("one",), (" ", "one"), (" ", "")])
def test_without_two_passages_no_model_is_asked(texts: Sequence[str]) -> None:
    class Untouchable(LexicalReader):
        @property
        def tokenizer(self) -> None:  # type: ignore[override]
            raise AssertionError("loaded")

    found = PairwiseReranker(Untouchable()).rerank(ASKED, ranking_of(*texts))
    assert len(found) == len(texts)
    assert (found.report.tokens, found.report.passes, found.report.degraded) == (0, 0, "")
