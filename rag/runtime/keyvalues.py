"""Key/value states of prompts, in memory that is taken once and written in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from rag.runtime.attention import Contexts


class KeyValues:
    """Keys and values of a batch of token sequences, layer by layer.

    keys, values  one tensor a layer: (batch, kv_heads, capacity, head_dim); ``length`` positions of it are valid
    A forward pass writes behind ``length`` and returns views of what is there; ``keep`` makes its tokens valid.
    Without ``keep`` the next pass overwrites them: that is how several suffixes use one prefix.

    shift     how far the positions of new tokens lie below their places: chunks read in parallel share positions
    contexts  the keys of such chunks, where attention to them is corrected
    """

    def __init__(
        self,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
        length: int = 0,
        *,
        shift: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        self.keys, self.values, self.length = keys, values, length
        self.shift, self.contexts = shift, contexts

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    @property
    def capacity(self) -> int:
        return int(self.keys[0].shape[2])

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer_idx: int, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by each attention layer with the states of the new tokens."""
        end = self.length + key.shape[2]
        assert end <= self.capacity, f"{end} tokens in room for {self.capacity}"
        self.keys[layer_idx][:, :, self.length : end] = key
        self.values[layer_idx][:, :, self.length : end] = value
        return self.keys[layer_idx][:, :, :end], self.values[layer_idx][:, :, :end]

    def keep(self, tokens: int) -> None:
        self.length += tokens


def empty_states(model: PreTrainedModel, batch: int, capacity: int, layers: int | None = None) -> KeyValues:
    """Room for the states of ``capacity`` tokens in the first ``layers`` layers of a model."""
    import torch

    config: Any = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (batch, config.num_key_value_heads, capacity, width)
    count = config.num_hidden_layers if layers is None else layers

    def taken() -> list[torch.Tensor]:
        return [torch.zeros(shape, dtype=model.dtype, device=model.device) for _ in range(count)]

    return KeyValues(taken(), taken())


class RowStates:
    """States of sequences of different lengths, each of which is given one new token in a pass; None has no sequence.

    Nothing is copied and nothing padded: each row's attention is computed by itself, over its own states.
    """

    def __init__(self, rows: Sequence[KeyValues | None]) -> None:
        self.rows = rows
        self.contexts = [row.contexts if row else None for row in rows]

    @property
    def positions(self) -> list[int]:
        """The position of each row's new token."""
        return [row.length - row.shift if row else 0 for row in self.rows]

    @property
    def bytes(self) -> int:
        return sum(row.bytes for row in self.rows if row)

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer_idx: int, *_: object
    ) -> tuple[list[torch.Tensor | None], list[torch.Tensor | None]]:
        """Called by each attention layer with the states of the new tokens (rows, kv_heads, 1, head_dim)."""
        keys: list[torch.Tensor | None] = []
        values: list[torch.Tensor | None] = []
        for i, row in enumerate(self.rows):
            k, v = row.update(key[i : i + 1], value[i : i + 1], layer_idx) if row else (None, None)
            keys.append(k)
            values.append(v)
        return keys, values
