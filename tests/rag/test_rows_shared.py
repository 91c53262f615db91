"""Batches that threads share, that do not fit, or that are refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from rag.errors import InvalidInput, ModelOutOfMemory, Overloaded
from rag.language_model import LanguageModel
from rag.protocols import Reranker
from rag.reranking import prompts
from rag.reranking.pairwise import PairwiseReranker
from rag.reranking.pointwise import PointwiseReranker
from rag.reranking.setwise import SetwiseReranker
from rag.runtime import rows
from rag.runtime.meter import Cancelled, Limits, Meter, OutOfBudget
from rag.values import Query
from tests.rag.rankings import numbers, ranking_of
from tests.tiny_models import QUERY, SENTENCES, TEXTS, loaded, one_thread, pairs, saved

CLOSE = 1e-5
__all__ = ["one_thread"]


@pytest.fixture
def model() -> LanguageModel:
    """A tiny Llama of the test's own, with nothing kept."""
    return LanguageModel(str(saved("llama")), device="cpu", dtype="float32")


# --- company ---


def together(model: LanguageModel, work: Sequence[Callable[[], Any]], waiting: int) -> list[Any]:
    """Runs work in threads that all put their first rows down before the model is free."""
    results: list[Any] = [None] * len(work)

    def run(i: int) -> None:
        try:
            results[i] = work[i]()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(work))]
    with model._turns.turn(Meter()):
        for thread in threads:
            thread.start()
        until = time.monotonic() + 30
        while len(model._rows._waiting) < waiting and time.monotonic() < until:
            time.sleep(0.005)
        assert len(model._rows._waiting) >= waiting
    for thread in threads:
        thread.join(60)
    return results


def test_rankings_do_not_depend_on_who_shares_the_batch(model: LanguageModel) -> None:
    first, second = ranking_of(*TEXTS), ranking_of(*reversed(SENTENCES))
    jobs: list[tuple[Reranker, Query]] = [
        (PairwiseReranker(model, "allpair"), Query(QUERY)),
        (PairwiseReranker(model, "heapsort"), Query("cheese")),
        (SetwiseReranker(model), Query(QUERY)),
        (PointwiseReranker(model), Query("Which animals are banned?")),
        (PointwiseReranker(model, "likelihood"), Query(QUERY)),
    ]
    work = [partial(reranker.rerank, query, ranking) for reranker, query in jobs for ranking in (first, second)]
    alone = [one() for one in work]
    model._rows._kept.clear()
    shared = together(model, work, waiting=60)
    for one, other in zip(alone, shared, strict=True):
        assert numbers(one) == numbers(other)
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=CLOSE)


def test_rows_of_many_threads_ride_in_one_pass(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    form, asked = pairs(model, TEXTS[:2])
    model.labels(asked, form.labels, Meter())
    meters = [Meter() for _ in range(4)]
    sizes: list[int] = []
    scarce(model, monkeypatch, lambda ids: bool(sizes.append(len(ids))))  # type: ignore[func-returns-value]
    together(model, [partial(model.labels, asked, form.labels, meter) for meter in meters], waiting=8)
    assert sizes in ([8], [4, 4])  # two tails of different lengths, four times each
    assert {meter.passes for meter in meters} == {len(sizes)}


def test_one_threads_budget_does_not_stop_another(model: LanguageModel) -> None:
    form, asked = pairs(model)
    expected = model.labels(asked, form.labels, Meter())
    poor, gone = Meter(Limits(max_prefill_tokens=1)), Meter(gone=lambda: True)
    work = [partial(model.labels, asked, form.labels, meter) for meter in (poor, gone, Meter())]
    refused, lost, found = together(model, work, waiting=3 * len(asked))
    assert isinstance(refused, OutOfBudget)
    assert isinstance(lost, Cancelled)
    assert np.abs(found - expected).max() < CLOSE
    assert (poor.prefill, gone.prefill, len(model._rows._waiting)) == (0, 0, 0)


# --- refusals ---


def test_a_full_queue_is_said_to_be_full(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    form, asked = pairs(model)
    monkeypatch.setattr(rows, "MAX_WAITING", len(asked) - 1)
    with pytest.raises(Overloaded, match="prompts wait"):
        model.labels(asked, form.labels, Meter())
    assert not model._rows._waiting
    assert model.labels(asked[1:], form.labels, Meter()).shape == (len(asked) - 1, 2)


def test_a_prompt_beyond_the_context_is_refused(model: LanguageModel) -> None:
    form = prompts.pairwise(model, QUERY)
    with pytest.raises(InvalidInput, match="the model reads 2048"):
        model.labels([form.write(([5] * 1500, [6] * 600))], form.labels, Meter())
    assert not model._rows._waiting


@pytest.mark.parametrize("most", [1, 3])
def test_a_batch_that_memory_is_too_short_for_is_halved(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    form, asked = pairs(model)
    refused = scarce(model, monkeypatch, lambda ids: len(ids) > most)
    found = model.labels(asked, form.labels, Meter())
    assert next(refused) > 0
    assert np.abs(found - loaded("llama").labels(asked, form.labels, Meter())).max() < CLOSE


def test_a_prompt_that_does_not_fit_alone_is_named(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    form, asked = pairs(model)
    longest = max(len(prompt.tail) for prompt in asked)
    scarce(model, monkeypatch, lambda ids: ids.shape[1] >= longest)
    with pytest.raises(ModelOutOfMemory, match="shorten passages"):
        model.labels(asked, form.labels, Meter())
    short = [prompt for prompt in asked if len(prompt.tail) < longest]
    assert np.isfinite(model.labels(short, form.labels, Meter())).all()


def test_what_is_kept_makes_room_for_a_prompt(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    form, asked = pairs(model)
    model.labels(asked, form.labels, Meter())
    scarce(model, monkeypatch, lambda ids: sum(map(len, model._rows._kept)) > 1000)
    assert np.isfinite(model.labels(asked[:1], form.labels, Meter())).all()


def scarce(model: LanguageModel, monkeypatch: pytest.MonkeyPatch, when: Callable[[Any], bool]) -> Iterator[int]:
    """Memory runs out ``when`` a pass is asked for; yields how often it did."""
    import torch

    forward, refused = model.forward, 0

    def scarce_forward(ids: Any, *args: Any, **options: Any) -> Any:
        nonlocal refused
        if when(ids):
            refused += 1
            raise torch.OutOfMemoryError("none left")
        return forward(ids, *args, **options)

    monkeypatch.setattr(model, "forward", scarce_forward)

    def count() -> Iterator[int]:
        while True:
            yield refused

    return count()
