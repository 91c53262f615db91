"""Computing some tokens of a prompt again, layer by layer, among states that are there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rag.kv.ahead import Place
from rag.kv.layer import finish, projected
from rag.kv.rope import angles, rotated
from rag.runtime.attention import attend
from rag.runtime.keyvalues import KeyValues
from rag.runtime.meter import Meter

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel

ROWS, ROWS_CUDA = 512, 4096
"""Tokens whose attention and MLP are computed at once."""

Narrow = Callable[[int, "torch.Tensor", "tuple[torch.Tensor, torch.Tensor]", KeyValues], "torch.Tensor | None"]
"""(layer, active tokens, their fresh keys and values, states) -> which of the active go on; None for all."""

Watch = Callable[[int, "torch.Tensor", "torch.Tensor", "torch.Tensor", KeyValues], None]
"""Told of each layer the active tokens' rotated queries, raw keys and values, and the states with theirs in place."""


def recompute(
    model: LanguageModel,
    states: KeyValues,
    ids: Sequence[int],
    active: torch.Tensor,
    meter: Meter,
    place: Place,
    narrow: Narrow | None = None,
    watch: Watch | None = None,
) -> tuple[int, int]:
    """Overwrite the states of ``active`` tokens with what full attention gives.

    Returns how many token states that were, summed over layers, and how many tokens were computed in every layer.

    states  room for one sequence whose token i stands at place and position i, in as many layers as are wanted
    active  (n,) places, ascending. In each layer a token sees all u <= t, fresh or cached.
    """
    import torch

    core: Any = model.model.model
    device = model.model.device
    count, layers = 0, len(states.keys)
    active = active.to(device)
    tokens = torch.tensor([ids], dtype=torch.long, device=device)
    hidden = core.embed_tokens(tokens[:, active])
    rope = angles(model, active)
    for at, layer in enumerate(core.layers[:layers]):
        place(at)
        if not len(active):
            continue
        meter.allow()
        query, raw, value = projected(layer, hidden)
        query, key = rotated(query, rope), rotated(raw, rope)
        kept = narrow(at, active, (key, value), states) if narrow is not None else None
        states.keys[at][:, :, active] = key
        states.values[at][:, :, active] = value
        if watch is not None:
            watch(at, query, raw, value, states)
        count += len(active)
        if at == layers - 1:
            break  # what the last layer gives is nobody's input here
        if kept is not None:
            active, hidden, query = active[kept], hidden[:, kept], query[:, :, kept]
            rope = (rope[0][:, kept], rope[1][:, kept])
        _run(layer, hidden, query, active, states.keys[at], states.values[at])
    return count, len(active)


def visible(places: torch.Tensor, keys: int) -> torch.Tensor:
    """(places, keys) bool: what tokens at these places see, wherever they stand in the batch (LMCache #277)."""
    import torch

    return torch.arange(keys, device=places.device)[None] <= places[:, None]


def _run(
    layer: Any,
    hidden: torch.Tensor,
    query: torch.Tensor,
    active: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
) -> None:
    """Attention and MLP of the active tokens in place, block by block, each over the keys up to its last token."""
    rows = ROWS_CUDA if hidden.is_cuda else ROWS
    for start in range(0, len(active), rows):
        block = slice(start, start + rows)
        upto = int(active[block][-1]) + 1
        mask = visible(active[block], upto)
        attention = layer.self_attn
        mixed = attend(
            attention, query[:, :, block], keys[:, :, :upto], values[:, :, :upto], mask[None, None], attention.scaling
        )[0]
        finish(layer, hidden[:, block], mixed)
