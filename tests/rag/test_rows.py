"""Batches of prompts: padding, sharing and company change nothing, and a batch can be stopped, refused or halved."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rag.language_model import LanguageModel
from rag.reranking import prompts
from rag.reranking.pairwise import PairwiseReranker
from rag.reranking.pointwise import PointwiseReranker
from rag.runtime import rows
from rag.runtime.meter import Cancelled, Limits, Meter, OutOfBudget, cancelled
from rag.runtime.prompt import Prompt, Segment
from rag.values import Query
from tests.rag.rankings import numbers, ranking_of
from tests.tiny_models import FAMILIES, QUERY, TEXTS, loaded, one_thread, pairs, plain_model, saved

CLOSE = 1e-5
__all__ = ["one_thread"]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model() -> LanguageModel:
    """A tiny Llama of the test's own, with nothing kept."""
    return LanguageModel(str(saved("llama")), device="cpu", dtype="float32")


def unbatched(model: Any, asked: Sequence[Prompt], labels: Sequence[int]) -> np.ndarray:
    """Each whole prompt alone through transformers' own attention: (prompts, labels) log-probabilities."""
    import torch

    with torch.inference_mode():
        last = [model(torch.tensor([prompt.ids])).logits[0, -1, list(labels)] for prompt in asked]
    return torch.stack(last).log_softmax(-1).numpy()


# --- equal to one by one ---


def test_label_scores_are_those_of_single_whole_prompts(family: str) -> None:
    model = loaded(family)
    form, asked = pairs(model)
    meter = Meter()
    found = model.labels(asked, form.labels, meter)
    expected = unbatched(plain_model(family), asked, form.labels)
    assert np.abs(found - expected).max() < CLOSE
    assert meter.prefill < 0.6 * sum(len(prompt.ids) for prompt in asked)
    again = Meter()
    assert np.abs(model.labels(asked, form.labels, again) - expected).max() < CLOSE
    assert again.prefill == sum(len(prompt.tail) for prompt in asked)  # every beginning was kept


def test_likelihoods_are_those_of_single_whole_prompts(family: str) -> None:
    import torch

    model, plain = loaded(family), plain_model(family)
    form = prompts.likelihood(model, QUERY)
    asked = [form.write([ids]) for ids in model.tokenizer.encode_many([f" {text}" for text in TEXTS])]
    expected = []
    for prompt in asked:
        target = len(prompt.segments[-1].ids)
        with torch.inference_mode():
            logits = plain(torch.tensor([prompt.ids])).logits[0, -target - 1 : -1].log_softmax(-1)
        expected.append(float(logits.gather(1, torch.tensor(prompt.segments[-1].ids)[:, None]).mean()))
    assert np.abs(model.likelihood(asked, Meter()) - expected).max() < CLOSE


@pytest.mark.parametrize("batch_tokens", [1, 200, 1_000_000])
def test_the_size_of_a_batch_changes_nothing(
    model: LanguageModel, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, asked = pairs(model)
    monkeypatch.setattr(rows, "BATCH_TOKENS", batch_tokens)
    found = model.labels(asked, form.labels, Meter())
    assert np.abs(found - loaded("llama").labels(asked, form.labels, Meter())).max() < CLOSE


def test_prompts_without_a_shared_beginning_may_stand_beside_others(model: LanguageModel) -> None:
    form, asked = pairs(model)
    mixed = [Prompt(prompt.segments, shared=i % 5) for i, prompt in enumerate(asked)]
    found = model.labels(mixed, form.labels, Meter())
    assert np.abs(found - loaded("llama").labels(asked, form.labels, Meter())).max() < CLOSE


def test_kept_beginnings_are_bounded(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    form, asked = pairs(model)
    monkeypatch.setattr(rows, "KEPT_TOKENS", 150)
    found = model.labels(asked, form.labels, Meter())
    assert sum(map(len, model._rows._kept)) <= 150
    assert np.abs(found - loaded("llama").labels(asked, form.labels, Meter())).max() < CLOSE


# --- limits ---


def test_a_call_never_computes_more_than_it_may(model: LanguageModel) -> None:
    form, asked = pairs(model)
    for limit in range(100, 3000, 400):
        meter = Meter(Limits(max_prefill_tokens=limit))
        with pytest.raises(OutOfBudget, match=f"max_prefill_tokens = {limit} is used up"):
            model.labels(asked, form.labels, meter)
        assert meter.prefill <= limit
        model._rows._kept.clear()


def test_a_cancelled_request_stops_and_leaves_nothing_behind(model: LanguageModel) -> None:
    asked = iter([False] * 40)
    token = cancelled.set(lambda: next(asked, True))
    try:
        with pytest.raises(Cancelled, match="given up"):
            PairwiseReranker(model, "allpair").rerank(Query(QUERY), ranking_of(*TEXTS))
    finally:
        cancelled.reset(token)
    assert not model._rows._waiting
    assert numbers(PointwiseReranker(model).rerank(Query(QUERY), ranking_of(*TEXTS)))


def test_a_deadline_ends_the_wait_for_a_busy_model() -> None:
    model = loaded("llama")
    prompt = Prompt((Segment((5, 6, 7)),))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with model._turns.turn(Meter()):
            held.set()
            release.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(20)
    try:
        with pytest.raises(OutOfBudget, match="deadline_ms = 100"):
            model.labels([prompt], [1, 2], Meter(Limits(deadline_ms=100)))
        with pytest.raises(OutOfBudget, match="deadline_ms = 100"):
            model.attention(prompt, [prompt], Meter(Limits(deadline_ms=100)))
    finally:
        release.set()
        holder.join()
    assert model.labels([prompt], [1, 2], Meter()).shape == (1, 2)  # what was given up is not computed, nor in the way
