"""Contexts read in parallel: their positions, and the correction of attention to them."""

from __future__ import annotations

import math

import pytest
import torch

from rag.kv.ape import correction, shared_positions, shift
from rag.kv.behind import attention_behind, logits_behind
from rag.kv.compose import compose
from rag.kv.modes import parse_mode
from rag.runtime.attention import Contexts
from rag.runtime.meter import Meter
from tests.rag.kv.models import model_of, read, tokens
from tests.tiny_models import one_thread

__all__ = ["one_thread"]
HEAD, *ROWS, QUESTION = tokens(8, 20, 25, 6)


def test_chunks_stand_at_the_same_positions_before_what_follows_the_longest() -> None:
    assert shared_positions(7, [3, 1, 2]) == [7, 8, 9, 7, 7, 8]
    assert shift([3, 1, 2]) == 3 + 1 + 2 - 3
    assert (shared_positions(7, []), shift([])) == ([], 0)


def test_no_correction_where_it_changes_nothing() -> None:
    assert correction(parse_mode("ape-1-1"), 3, 9) is None
    assert correction(parse_mode("ape"), 3, 3) is None
    assert correction(parse_mode("ape-0.9-1"), 3, 9) == Contexts(3, 9, 0.9, 1.0)


def test_corrected_weights_are_two_softmaxes_merged_by_their_log_sum_exps() -> None:
    temperature, scale = 0.5, 0.8
    scores = torch.tensor([[0.3, 1.0, -0.5, 0.7]])
    Contexts(1, 3, temperature, scale).correct(scores)
    contexts = [math.exp(1.0 / temperature), math.exp(-0.5 / temperature)]
    others = [math.exp(0.3), math.exp(0.7)]
    mass = math.exp(math.log(sum(contexts)) * scale * temperature)
    total = mass + sum(others)
    wanted = [
        others[0] / total,
        contexts[0] / sum(contexts) * mass / total,
        contexts[1] / sum(contexts) * mass / total,
        others[1] / total,
    ]
    assert scores.softmax(-1)[0].tolist() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("mode", ["ape-1-1", "ape-0.9-0.8"])
def test_what_is_kept_behind_contexts_goes_on_as_one_text(mode: str) -> None:
    """As answers are written: positions go on behind the longest context, and the correction holds."""
    model = model_of()
    chunks = read(model, *ROWS, prefix=read(model, HEAD)[0])
    at_once, by_one = (compose(model, HEAD, chunks, parse_mode(mode), Meter(), room=6) for _ in range(2))
    wanted = logits_behind(model, at_once, QUESTION, Meter())
    for token, row in zip(QUESTION, wanted, strict=True):
        assert logits_behind(model, by_one, [token], Meter())[0] == pytest.approx(row, abs=2e-4)
        by_one.states.keep(1)


def test_attention_that_is_read_out_is_the_corrected_one() -> None:
    """A row keeps some for itself. The larger the scale, the more of the rest goes to the contexts."""
    model = model_of()
    chunks = read(model, *ROWS, prefix=read(model, HEAD)[0])

    def to_contexts(mode: str) -> float:
        found = compose(model, HEAD, chunks, parse_mode(mode), Meter(), room=1)
        weights = attention_behind(model, found, [QUESTION[:1]], Meter(), per_head=True)[0]
        assert float(weights.sum(axis=-1).max()) < 1
        return float(weights[0, :, 8:].sum())

    assert to_contexts("ape-1-0") < to_contexts("ape-1-0.99") < to_contexts("ape-1-1") < to_contexts("ape-1-1.01")
