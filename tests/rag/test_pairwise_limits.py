"""Pairwise reranking under limits, and what it costs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import get_args

import pytest

from rag.reranking.pairwise import PairwiseReranker, Sort
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Cancelled, Limits, Meter, cancelled
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Array
from rag.values import Query
from tests.rag.rankings import (
    ScriptedReader,
    by_number,
    numbers,
    passages_of,
    ranking_of,
)
from tests.tiny_models import loaded, one_thread

SORTS = get_args(Sort)
ASKED = Query("q")
__all__ = ["one_thread"]


# --- limits ---


@pytest.mark.parametrize("sort", SORTS)
def test_at_a_limit_the_best_order_so_far_is_given_and_flagged(sort: Sort) -> None:
    texts = ranking_of(*[f"text {i}" for i in range(40)])
    reader = ScriptedReader(by_number)
    whole = PairwiseReranker(reader, sort, limits=Limits()).rerank(ASKED, texts)
    limit = int(0.7 * whole.report.tokens)
    found = PairwiseReranker(reader, sort, limits=Limits(max_prefill_tokens=limit)).rerank(ASKED, texts)
    assert 0 < found.report.tokens <= limit
    assert sorted(numbers(found)) == list(range(40))
    assert found.report.degraded.startswith("partial, ")
    assert found.report.degraded.endswith(f"max_prefill_tokens = {limit} is used up")
    assert numbers(found)[0] > 0  # something better than the input's first has come up


def test_allpair_keeps_the_answers_of_calls_before_the_stop() -> None:
    texts = ranking_of(*[f"text {i}" for i in range(12)])
    reader = ScriptedReader(by_number)
    limits = Limits(max_prefill_tokens=4000)
    found = PairwiseReranker(reader, "allpair", limits=limits).rerank(ASKED, texts)
    answered = len(reader.shown) // 2
    assert found.report.degraded.startswith(f"partial, {answered} of 66 pairs were compared")
    assert answered % 8 == 0 < answered


def test_a_deadline_stops_it_in_time() -> None:
    reader = ScriptedReader(by_number, seconds=0.02)
    found = PairwiseReranker(reader, limits=Limits(deadline_ms=150)).rerank(
        ASKED, ranking_of(*[f"text {i}" for i in range(60)])
    )
    assert "deadline_ms = 150 is used up" in found.report.degraded
    assert found.report.seconds < 1.0


def test_a_cancelled_request_gives_no_ranking() -> None:
    token = cancelled.set(lambda: True)
    try:
        with pytest.raises(Cancelled):
            PairwiseReranker(LexicalReader()).rerank(ASKED, ranking_of("a", "b"))
    finally:
        cancelled.reset(token)


# --- cost ---


class Decided(LexicalReader):
    """Reads every prompt with a real model, and then answers perfectly."""

    def __init__(self) -> None:
        self.model = loaded("llama")
        self.tokens = 0

    @property
    def tokenizer(self):  # type: ignore[no-untyped-def]
        return self.model.tokenizer

    @property
    def family(self):  # type: ignore[no-untyped-def]
        return self.model.family

    def labels(self, prompts: Sequence[Prompt], labels: Sequence[int], meter: Meter) -> Array:
        self.tokens += sum(len(prompt.ids) for prompt in prompts)
        scores = self.model.labels(prompts, labels, meter)
        for row, prompt in zip(scores, prompts, strict=True):
            worth = [float(text[:3]) for text in passages_of(prompt, self)]
            row[:] = [*worth, *[-1.0] * (len(row) - len(worth))]
        return scores


def test_heapsort_computes_at_most_six_tenths_of_unshared_prompts() -> None:
    """100 passages of 100 tokens, as good as their number, in an order off by about 20 places; the ten best."""
    noise = random.Random(3)
    order = sorted(range(100), key=lambda i: i + noise.gauss(0, 20))
    reader = Decided()
    texts = ranking_of(*[f"{99 - i:03d} " + "zqxj " * 40 for i in order])
    loaded("llama")._rows._kept.clear()
    found = PairwiseReranker(reader, passage_tokens=100).rerank(Query("When was it built?"), texts)
    assert numbers(found)[:10] == [order.index(i) for i in range(10)]
    assert "100 passages were cut at 100 tokens" in found.report.notes
    assert found.report.tokens <= 0.6 * reader.tokens
