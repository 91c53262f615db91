"""Cache-Craft: what a chunk's context asks for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.kv import attended
from rag.kv.attended import read_variants
from rag.kv.craft import Between, Context, cci, cfo, choose, order_penalty, overlap, share, wanting
from rag.kv.key import token_hash
from rag.runtime.meter import Meter
from tests.rag.kv.models import Ids, model_of, read, tokens
from tests.tiny_models import one_thread, plain_model

__all__ = ["one_thread"]
A, B, C, D = "abcd"
READ = Context(before=(A, B), inter=(3.0, 1.0), cci=0.8, tokens=np.array([0.1, 0.9, 0.5], np.float32))
chunks = st.lists(st.sampled_from([A, B, C, D]), max_size=5)


def test_cci_is_eq_11() -> None:
    assert cci(0.02, 0.01) == pytest.approx(1 / (1 + math.exp(-2)))
    assert cci(0.0, 0.01) == 0.5


@given(st.floats(0, 1), st.floats(1e-9, 1))
def test_cci_is_at_least_one_half_and_less_than_one(outside: float, inside: float) -> None:
    assert 0.5 <= cci(outside, inside) < 1


def test_overlap_is_the_share_of_attention_that_finds_its_chunk_again() -> None:
    assert overlap(READ, [A]) == 3 / 4
    assert overlap(READ, [C, B]) == 1 / 4
    assert overlap(READ, [B, C, A]) == 1
    assert overlap(READ, []) == 0


def test_order_penalty_counts_turned_pairs() -> None:
    assert order_penalty([A, B, C], [A, D, B, C]) == 0
    assert order_penalty([A, B, C], [C, B, A]) == 1
    assert order_penalty([A, B, C], [B, A, C]) == 1 / 3
    assert order_penalty([A, B, C], [C]) == 0


@pytest.mark.parametrize(
    ("before", "share"),
    [
        ([A, B], 0.0),  # the same chunks in the same order
        ([A, C, B], 0.0),  # and another between them, which the paper's formula does not see
        ([C, D], 0.8),  # none of them: alpha * CCI
        ([], 0.8),
        ([B, A], 0.8),  # reversed
        ([A], 0.8 * (1 - 3 / 4)),
    ],
)
def test_cfo_follows_overlap_and_order(before: list[str], share: float) -> None:
    assert cfo(READ, before) == pytest.approx(share)
    assert cfo(READ, before, alpha=0.5) == pytest.approx(share / 2)


def test_a_chunk_read_behind_no_other_lacks_whatever_stands_before_it() -> None:
    assert cfo(Context(), []) == 0
    assert cfo(Context(), [A]) == 0.5


@given(chunks, chunks, st.floats(0, 2))
def test_cfo_is_a_share(old: list[str], new: list[str], alpha: float) -> None:
    context = Context(tuple(old), tuple(float(i) for i in range(len(old))), 0.9)
    assert 0 <= cfo(context, new, alpha) <= 1
    assert cfo(context, old, alpha) == 0


def test_the_context_with_least_to_compute_is_chosen() -> None:
    contexts = [Context((name,), (1.0,), 0.7, front=f"behind {name}") for name in (A, B, D, B)]
    assert choose(contexts, [B, A], "other") == 0  # of equals, here of one half, the first
    assert choose(contexts, [D], "behind d") == 2
    assert choose(contexts, [B], "behind b") == 1


@given(st.lists(chunks, min_size=1, max_size=4), chunks, st.floats(0, 2))
def test_no_other_context_leaves_less_than_the_chosen(olds: list[list[str]], new: list[str], alpha: float) -> None:
    contexts = [Context(tuple(old), tuple(1.0 + i for i in range(len(old))), 0.9, front=str(old)) for old in olds]
    shares = [share(context, new, str(new), alpha) for context in contexts]
    assert choose(contexts, new, str(new), alpha) == shares.index(min(shares))


def test_the_same_chunks_with_something_else_between_them_are_another_context() -> None:
    read = Context((A,), (1.0,), 0.8, front="with one separator")
    assert share(read, [A], "with one separator", 0.5) == 0
    assert share(read, [A], "with another", 0.5) == pytest.approx(0.5 * 0.8)
    assert share(read, [A, B], "with another", 0.5) == cfo(read, [A, B], 0.5) == 0


def test_tokens_that_looked_most_at_other_chunks_are_wanted() -> None:
    assert wanting(READ, 3, 0.0) == []
    assert wanting(READ, 3, 0.4) == [1, 2]
    assert wanting(READ, 3, 1.0) == [0, 1, 2]
    assert wanting(Context(), 5, 0.4) == [0, 1]


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_sums_are_those_of_the_models_own_attention(family: str) -> None:
    model = model_of(family)
    head, *rows = tokens(5, 6, 1, 4)
    variants = read_variants(model, rows, Meter(), prefix=read(model, head)[0])
    ids = [token for row in (head, *rows) for token in row]
    with torch.inference_mode():
        layers = plain_model(family)(torch.tensor([ids]), output_attentions=True).attentions
    weights = torch.stack(layers).mean(dim=(0, 1, 2))  # over layers, the batch of one and heads
    first, second, third = weights[5:11], weights[11:12], weights[12:16]
    assert variants[0].context.inter == ()
    assert variants[0].context.cci == 0.5
    assert variants[1].context.inter == pytest.approx([second[:, 5:11].sum().item()], rel=1e-5)
    wanted = [third[:, 5:11].sum().item(), third[:, 11:12].sum().item()]
    assert variants[2].context.inter == pytest.approx(wanted, rel=1e-5)
    assert variants[2].context.tokens == pytest.approx(third[:, 5:12].sum(dim=1).numpy(), rel=1e-5)
    outside = wanted[0] / (4 * 6) + wanted[1] / (4 * 1)
    assert variants[2].context.cci == pytest.approx(cci(outside, third[:, 12:16].sum().item() / 16), rel=1e-5)
    assert variants[2].context.before == (token_hash(rows[0]), token_hash(rows[1]))
    assert variants[2].context.front == token_hash(rows[0] + rows[1])
    assert [v.states.behind for v in variants] == [5, 11, 12]
    assert first.shape == (6, 16)


@pytest.mark.parametrize("block", [attended.BLOCK_BYTES, 64])
def test_what_stands_between_chunks_is_in_no_sum(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attended, "BLOCK_BYTES", block)  # of 64 bytes a block holds one row
    model = model_of()
    head, first, between, second = tokens(5, 6, 2, 4)
    rows: list[Ids | Between] = [first, Between(between), second]
    one, two = read_variants(model, rows, Meter(), prefix=read(model, head)[0])
    ids = [*head, *first, *between, *second]
    with torch.inference_mode():
        layers = plain_model("llama")(torch.tensor([ids]), output_attentions=True).attentions
    weights = torch.stack(layers).mean(dim=(0, 1, 2))[13:]
    assert two.context.before == (token_hash(first),)
    assert two.context.front == token_hash(first + between)
    assert two.context.inter == pytest.approx([weights[:, 5:11].sum().item()], rel=1e-5)
    assert two.context.tokens == pytest.approx(weights[:, 5:11].sum(dim=1).numpy(), rel=1e-5)
    outside = weights[:, 5:11].sum().item() / (4 * 6)
    assert two.context.cci == pytest.approx(cci(outside, weights[:, 13:].sum().item() / 16), rel=1e-5)
    assert (one.states.behind, two.states.behind) == (5, 13)
