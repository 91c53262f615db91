"""Which tokens deviate most."""

from __future__ import annotations

import pytest
import torch

from rag.kv.blend import Deviants, deviation
from rag.kv.modes import Mode
from rag.runtime.keyvalues import KeyValues
from tests.tiny_models import one_thread

__all__ = ["one_thread"]


def states_of(*rows: float) -> torch.Tensor:
    """(1, 2, tokens, 2) with each token's number everywhere."""
    return torch.tensor(rows)[None, None, :, None].expand(1, 2, -1, 2).clone()


def test_deviation_adds_squares_over_heads_and_dimensions_of_keys_and_values() -> None:
    fresh, cached = (states_of(1, 2, 3), states_of(0, 0, 5)), (states_of(1, 0, 3), states_of(0, 1, 2))
    # four numbers a token: 4 * (key difference)^2 + 4 * (value difference)^2
    assert deviation(fresh, cached, values_only=False).tolist() == [0, 4 * 4 + 4 * 1, 4 * 9]
    assert deviation(fresh, cached, values_only=True).tolist() == [0, 4 * 1, 4 * 9]


@pytest.mark.parametrize(
    ("share", "values_only", "goes_on"),
    [
        (0.3, False, [1, 3]),  # ceil(0.3 * 3) of three cached ones, and the one that is not cached
        (0.5, False, [1, 2, 3]),
        (0.3, True, [1, 4]),
        (1.0, False, [1, 2, 3, 4]),
    ],
)
def test_the_share_that_deviates_most_goes_on_with_what_is_not_cached(
    share: float, values_only: bool, goes_on: list[int]
) -> None:
    """Places 0 and 5 are not computed; of the others place 1 is not cached."""
    old = KeyValues([states_of(0, 0, 0, 0, 0, 0)] * 2, [states_of(0, 0, 0, 0, 0, 0)] * 2)
    chosen = Deviants(
        Mode(kind="blend", share=share, values_only=values_only), torch.tensor([True, False, True, True, True, True])
    )
    active = torch.tensor([1, 2, 3, 4])
    fresh = (states_of(9, 2, 3, 1), states_of(9, 1, 0, 2))
    assert chosen(0, active, fresh, old) is None
    kept = chosen(1, active, fresh, old)
    assert kept is not None
    assert active[kept].tolist() == goes_on


def test_of_equals_the_first_goes_on() -> None:
    old = KeyValues([states_of(0, 0, 0)] * 2, [states_of(0, 0, 0)] * 2)
    chosen = Deviants(Mode(kind="blend", share=0.3), torch.ones(3, dtype=torch.bool))
    kept = chosen(1, torch.arange(3), (states_of(1, 1, 1), states_of(1, 1, 1)), old)
    assert kept is not None
    assert kept.tolist() == [0]
