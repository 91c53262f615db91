"""What a language model read of one chunk: key/value states that fit at any place of any prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class ChunkStates:
    """Keys before rotation (behind the k-norm where the model has one) and values of one chunk's tokens.

    ids     the chunk's token ids, (tokens,)
    keys    (layers, kv_heads, tokens, head_dim), not rotated;  values  likewise; both of one dtype, on one device
    behind  tokens of the fixed prefix that stood before the chunk when it was read
    rounded the scheme that changed them when they were stored, as int8; "" where they are what the model computed
    """

    ids: tuple[int, ...]
    keys: torch.Tensor
    values: torch.Tensor
    behind: int = 0
    rounded: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(t.numel() * t.element_size() for t in (self.keys, self.values))
