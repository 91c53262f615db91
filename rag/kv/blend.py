"""CacheBlend (2405.16444): which tokens deviate most from what the cache has of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rag.kv.modes import CHECK_LAYER, Mode

if TYPE_CHECKING:
    import torch

    from rag.runtime.keyvalues import KeyValues


def deviation(
    fresh: tuple[torch.Tensor, torch.Tensor], cached: tuple[torch.Tensor, torch.Tensor], *, values_only: bool
) -> torch.Tensor:
    """(tokens,) float32: squared differences of rotated keys and of values (1, heads, tokens, d), added."""
    pairs = list(zip(fresh, cached, strict=True))[values_only:]
    differences = [(new.float() - old.float()).square().sum(dim=(0, 1, 3)) for new, old in pairs]
    total = differences[0]
    for more in differences[1:]:
        total = total + more
    return total


class Deviants:
    """Asked in every layer which of the tokens being computed go on; narrows them once, at the check layer.

    cached  (tokens,) bool, true where a token of the prompt has cached states; the others always go on
    """

    def __init__(self, mode: Mode, cached: torch.Tensor) -> None:
        self._mode, self._cached = mode, cached

    def __call__(
        self, layer: int, active: torch.Tensor, fresh: tuple[torch.Tensor, torch.Tensor], states: KeyValues
    ) -> torch.Tensor | None:
        """Places in ``active`` that go on, ascending; None for all. ``states`` still hold what was cached."""
        import torch

        if layer != CHECK_LAYER:
            return None
        candidates = self._cached[active]
        count = math.ceil(round(self._mode.share * int(candidates.sum()), 9))
        old = (states.keys[layer][:, :, active], states.values[layer][:, :, active])
        score = deviation(fresh, old, values_only=self._mode.values_only)
        score = torch.where(candidates, score, -1.0)
        chosen = ~candidates
        chosen[torch.sort(score, descending=True, stable=True).indices[:count]] = True
        return chosen.nonzero()[:, 0]
