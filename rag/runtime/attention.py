"""The attention function of the runtime: grouped query heads on uncopied keys, and the readout inside the layer.

Registered with transformers under NAME, it is called once a layer with post-RoPE states. Where a Readout is given,
the softmax rows of the new tokens are computed in float32, reduced to one number a key, and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "kvasir"
BLOCK_BYTES = 2**18
"""Work space of the readout on a CPU: as many query heads are taken at once as fit, at least one."""


class LayersDone(Exception):
    """The last layer that is needed has given what is wanted of it."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """Keys ``start`` to ``stop`` of chunks that were read in parallel, and the correction of attention to them.

    Their softmax has ``temperature``, and its log-sum-exp is multiplied by scale * temperature before it is merged
    with that of all other keys. APE (2502.05431), as its released code has it.
    """

    start: int
    stop: int
    temperature: float
    scale: float

    def correct(self, scores: torch.Tensor) -> None:
        """Change scores (..., keys) in place so that their plain softmax is the merged one."""
        among = scores[..., self.start : self.stop]
        among /= self.temperature
        among += (self.scale * self.temperature - 1) * among.logsumexp(dim=-1, keepdim=True)


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
    key: torch.Tensor | list[torch.Tensor | None],
    value: torch.Tensor | list[torch.Tensor | None],
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    readout: Readout | None = None,
    contexts: Contexts | Sequence[Contexts | None] | None = None,
    last: int = -1,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention; query (B, Hq, T, d), key and value (B, Hkv, S, d), mask (B or 1, 1, T, S) bool or None.

    No mask means that the new tokens are the last T of S, each of which sees what precedes it.
    ``last`` is the layer after whose readout (or whose keys) nothing is needed.
    Keys, values and contexts that are lists have one entry a row (RowStates), T is then 1.
    Returns (B, T, Hq, d).
    """
    if isinstance(key, list):
        assert isinstance(value, list)
        assert isinstance(contexts, list)
        return _row_by_row(query, key, value, scaling, contexts), None
    assert not isinstance(value, list)
    assert not isinstance(contexts, Sequence)
    layer: int = module.layer_idx  # type: ignore[assignment]
    if readout is not None and readout.wants(layer):
        _read(query, key, attention_mask, scaling, readout, contexts, layer)
    if layer == last:
        raise LayersDone
    if contexts is not None:
        return _corrected(query, key, value, attention_mask, scaling, contexts), None
    return _sdpa(query, key, value, attention_mask, scaling), None


def _row_by_row(
    query: torch.Tensor,
    keys: Sequence[torch.Tensor | None],
    values: Sequence[torch.Tensor | None],
    scaling: float | None,
    contexts: Sequence[Contexts | None],
) -> torch.Tensor:
    """(B, 1, Hq, d), zeros for a row without states. Company changes no bit: a row's call is the one it has alone."""
    out = query.new_zeros(query.shape[0], 1, query.shape[1], query.shape[3])
    for i, (key, value, context) in enumerate(zip(keys, values, contexts, strict=True)):
        if key is None or value is None:
            continue
        own = query[i : i + 1]
        if context is None:
            out[i] = _sdpa(own, key, value, None, scaling)[0]
        else:
            out[i] = _corrected(own, key, value, None, scaling, context)[0]
    return out


def _sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """(B, T, Hq, d). Keys and values stand in the batch place with stride 0 for their group: nothing is copied."""
    import torch

    batch, heads, rows, width = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    group = heads // kv_heads
    grouped = query.reshape(batch * kv_heads, group, rows, width)

    def shared(states: torch.Tensor) -> torch.Tensor:
        return states.reshape(batch * kv_heads, 1, keys, width).expand(-1, group, -1, -1)

    square = mask is None and 1 < rows == keys
    turned = mask is None and 1 < rows < keys and not query.is_cuda
    if turned:
        grouped, mask = grouped.flip(2), _turned_mask(query, rows, keys)
    elif mask is None and 1 < rows < keys:
        mask = ~_later(query, rows, keys)
    elif mask is not None and mask.shape[0] > 1:
        mask = mask.repeat_interleave(kv_heads, dim=0)
    out = torch.nn.functional.scaled_dot_product_attention(
        grouped, shared(key), shared(value), attn_mask=mask, scale=scaling, is_causal=square
    )
    found = out.reshape(batch, heads, rows, width).transpose(1, 2)  # a view, but for CUDA kernels with heads last
    if turned:
        return found.index_select(1, torch.arange(rows - 1, -1, -1, device=out.device))
    return found.contiguous()


def _turned_mask(query: torch.Tensor, rows: int, keys: int) -> torch.Tensor:
    """(rows, keys) of what the last ``rows`` of ``keys`` tokens see, the last row first.

    Each row is the one above it, one place on: all are windows of one line of rows + keys numbers.
    """
    import torch

    line = torch.zeros(rows + keys - 1, dtype=query.dtype, device=query.device)
    line[keys:] = float("-inf")
    return line.as_strided((rows, keys), (1, 1))


def _later(query: torch.Tensor, rows: int, keys: int) -> torch.Tensor:
    """(rows, keys) bool: the keys behind each of the last ``rows`` of ``keys`` tokens, which it does not see."""
    import torch

    return torch.ones(rows, keys, dtype=torch.bool, device=query.device).triu_(keys - rows + 1)


def _corrected(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    contexts: Contexts,
) -> torch.Tensor:
    """(B, T, Hq, d) with softmax rows in float32, one key/value head at a time."""
    import torch

    batch, heads, rows, width = query.shape
    group = heads // key.shape[1]
    out = torch.empty(batch, rows, heads, width, dtype=query.dtype, device=query.device)
    for at in range(key.shape[1]):
        own = slice(at * group, (at + 1) * group)
        scores = (query[:, own].float() * (scaling or width**-0.5)) @ key[:, at : at + 1].float().mT
        scores.masked_fill_(_later(query, rows, key.shape[2]) if mask is None else ~mask, float("-inf"))
        contexts.correct(scores)
        out[:, :, own] = (scores.softmax(dim=-1) @ value[:, at : at + 1].float()).transpose(1, 2).to(out.dtype)
    return out


def _read(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    readout: Readout,
    contexts: Contexts | None,
    layer: int,
) -> None:
    """Softmax rows of one sequence, head block by head block, in float32 and in place."""
    _, heads, rows, width = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    group = heads // kv_heads
    scale = scaling or width**-0.5
    step = group if key.is_cuda else max(1, min(group, BLOCK_BYTES // (4 * rows * keys)))
    hidden = _later(query, rows, keys) if mask is None else ~mask[0, 0]
    for kv_head in range(kv_heads):
        transposed = key[0, kv_head].float().T
        for at in range(kv_head * group, (kv_head + 1) * group, step):
            upto = min(at + step, (kv_head + 1) * group)
            if readout.heads is not None and not any(at <= head < upto for head in readout.heads[layer]):
                continue
            scores = (query[0, at:upto].float() * scale) @ transposed
            scores.masked_fill_(hidden, float("-inf"))
            if contexts is not None:
                contexts.correct(scores)
            scores -= scores.amax(dim=-1, keepdim=True)
            scores.exp_()
            scores /= scores.sum(dim=-1, keepdim=True)
            readout.add(layer, at, scores)
