"""Key/value states of prompts, in memory that is taken once and written in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

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
        self.keys[layer_idx][:, :, self.length : end] = key
        self.values[layer_idx][:, :, self.length : end] = value
        return self.keys[layer_idx][:, :, :end], self.values[layer_idx][:, :, :end]

    def keep(self, tokens: int) -> None:
        self.length += tokens
