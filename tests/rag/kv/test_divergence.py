"""Divergences of distributions and rankings against figures that can be redone by hand, and other implementations."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.kv.divergence import agreements, divergences, kendall_tau, log_softmax, losses, top_overlap

HALF = np.log(np.array([[0.5, 0.25, 0.25]], dtype=np.float32))
SKEWED = np.log(np.array([[0.25, 0.5, 0.25]], dtype=np.float32))


def test_divergence_is_the_mean_surplus_of_log_probability() -> None:
    assert divergences(HALF, SKEWED)[0] == pytest.approx(0.5 * log(2) + 0.25 * log(0.5) + 0.25 * log(1), abs=1e-6)
    assert losses(HALF, [0])[0] == pytest.approx(log(2))
    assert not agreements(HALF, SKEWED)[0]


def test_divergence_is_torchs_and_shifts_of_logits_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 7, 50, generator=generator)
    wanted = torch.nn.functional.kl_div(
        q.double().log_softmax(-1), p.double().log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    np.testing.assert_allclose(divergences(p.numpy(), q.numpy()), wanted.numpy(), rtol=1e-9)
    np.testing.assert_allclose(divergences(p.numpy() + 300, q.numpy() - 300), wanted.numpy(), rtol=1e-3)
    np.testing.assert_allclose(np.exp(log_softmax(p.numpy())).sum(-1), 1)


@given(st.permutations(range(9)), st.permutations(range(9)))
def test_tau_is_the_mean_of_signs_over_all_pairs(one: list[int], other: list[int]) -> None:
    places = [np.array([order.index(thing) for thing in range(9)]) for order in (one, other)]
    signs = [np.sign(at[:, None] - at[None]) for at in places]
    assert kendall_tau(one, other) == pytest.approx(float((signs[0] * signs[1]).sum()) / (9 * 8))


def test_tau_and_overlap_at_their_ends() -> None:
    assert (kendall_tau("abc", "abc"), kendall_tau("abc", "cba"), kendall_tau("a", "a")) == (1, -1, 1)
    assert kendall_tau("abc", "acb") == pytest.approx((2 - 1) / 3)
    assert (
        top_overlap("abcd", "abdc", 2),
        top_overlap("abcd", "badc", 3),
        top_overlap("ab", "ba"),
        top_overlap("", ""),
    ) == (1, 2 / 3, 1, 1)
    with pytest.raises(ValueError, match="same things"):
        kendall_tau("ab", "ac")
