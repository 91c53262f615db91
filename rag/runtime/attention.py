"""The attention function of the runtime: grouped query heads on uncopied keys, and the readout inside the layer.

Registered with transformers under NAME, it is called once a layer with post-RoPE states. Where a Readout is given,
the softmax rows of the new tokens are computed in float32, reduced to one number a key, and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "kvasir"
BLOCK_BYTES = 2**18
"""Work space of the readout on a CPU: as many query heads are taken at once as fit, at least one."""


class LayersDone(Exception):
    """The last layer that is needed has given what is wanted of it."""


class Readout:
    """Sums attention over query rows and heads while a pass runs.

    heads     layer -> query heads that count, None for all heads of all layers
    keys      how many leading keys are reported
    per_head  keep every (layer, head) apart: ``rows`` is then (layers, heads, keys), else (keys,); both float32
    Every sum is the MEAN over the pass's query rows (ICR, In-Context-Reranking 9117e9f).
    """

    def __init__(
        self,
        keys: int,
        shape: tuple[int, int],
        heads: Mapping[int, tuple[int, ...]] | None = None,
        *,
        per_head: bool = False,
    ) -> None:
        self.keys, self.heads, self.per_head, self._shape = keys, heads, per_head, shape
        self.rows: torch.Tensor | None = None

    def wants(self, layer: int) -> bool:
        return self.heads is None or layer in self.heads

    def add(self, layer: int, first: int, weights: torch.Tensor) -> None:
        """``weights``: (heads, query rows, keys) of the query heads from ``first`` on."""
        import torch

        if self.rows is None:
            shape = (*self._shape, self.keys) if self.per_head else (self.keys,)
            self.rows = torch.zeros(shape, dtype=torch.float32, device=weights.device)
        means = weights[:, :, : self.keys].mean(dim=1)
        wanted = range(means.shape[0]) if self.heads is None else self._among(layer, first, means.shape[0])
        if self.per_head:
            for head in wanted:
                self.rows[layer, first + head] = means[head]
        elif wanted:
            self.rows += means[list(wanted)].sum(dim=0)

    def _among(self, layer: int, first: int, count: int) -> list[int]:
        assert self.heads is not None
        return [head - first for head in self.heads.get(layer, ()) if first <= head < first + count]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    readout: Readout | None = None,
    last: int = -1,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention; query (B, Hq, T, d), key and value (B, Hkv, S, d), mask (B or 1, 1, T, S) bool or None.

    No mask means T == S and causal. ``last`` is the layer after whose readout (or whose keys) nothing is needed.
    Returns (B, T, Hq, d).
    """
    layer: int = module.layer_idx  # type: ignore[assignment]
    if readout is not None and readout.wants(layer):
        _read(query, key, attention_mask, scaling, readout, layer)
    if layer == last:
        raise LayersDone
    return _sdpa(query, key, value, attention_mask, scaling).transpose(1, 2).contiguous(), None


def _sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """Keys and values stand in the batch place with stride 0 for their group: nothing is copied."""
    import torch

    batch, heads, rows, width = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    grouped = query.reshape(batch * kv_heads, group, rows, width)

    def shared(states: torch.Tensor) -> torch.Tensor:
        return states.reshape(batch * kv_heads, 1, states.shape[2], width).expand(-1, group, -1, -1)

    if mask is not None and mask.shape[0] > 1:
        mask = mask.repeat_interleave(kv_heads, dim=0)
    out = torch.nn.functional.scaled_dot_product_attention(
        grouped, shared(key), shared(value), attn_mask=mask, scale=scaling, is_causal=mask is None and rows > 1
    )
    return out.reshape(batch, heads, rows, width)  # a view, but for CUDA kernels that lay heads out last


def _read(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    readout: Readout,
    layer: int,
) -> None:
    """Softmax rows of one sequence, head block by head block, in float32 and in place."""
    import torch

    _, heads, rows, width = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    group = heads // kv_heads
    scale = scaling or width**-0.5
    step = group if key.is_cuda else max(1, min(group, BLOCK_BYTES // (4 * rows * keys)))
    hidden = None if mask is None else ~mask[0, 0]
    for kv_head in range(kv_heads):
        transposed = key[0, kv_head].float().T
        for at in range(kv_head * group, (kv_head + 1) * group, step):
            upto = min(at + step, (kv_head + 1) * group)
            if readout.heads is not None and not any(at <= head < upto for head in readout.heads[layer]):
                continue
            scores = (query[0, at:upto].float() * scale) @ transposed
            if hidden is not None:
                scores.masked_fill_(hidden, float("-inf"))
            else:
                scores.masked_fill_(torch.ones_like(scores[0], dtype=torch.bool).triu(1), float("-inf"))
            scores -= scores.amax(dim=-1, keepdim=True)
            scores.exp_()
            scores /= scores.sum(dim=-1, keepdim=True)
            readout.add(layer, at, scores)
