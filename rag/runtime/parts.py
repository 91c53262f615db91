"""How much of a prompt is computed at once, so that work space stays small beside the states that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WORK_SHARE = 0.08
"""Work space of a prefill on a CPU, as a share of the prompt's key/value states."""
HELD = 7
"""Vectors of the model's width that a token needs at most at once: in attention, where its query is rotated."""
MLP_SLICE = 1
"""Inner width of an MLP that is computed at once on a CPU, in widths of the model."""
MIN_PART, MAX_PART, PART_CUDA = 64, 512, 8192
"""Prompt tokens computed at once: bounds on a CPU, and on a GPU, where fewer would leave it idle."""


def part_size(model: PreTrainedModel, total: int) -> int:
    """Tokens of a prompt of ``total`` that are computed at once."""
    if model.device.type == "cuda":
        return PART_CUDA
    config: Any = model.config
    size = model.dtype.itemsize
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kept = 2 * config.num_hidden_layers * config.num_key_value_heads * width * size
    used = HELD * config.hidden_size * size
    return int(min(MAX_PART, max(MIN_PART, WORK_SHARE * kept * total / used)))


def gated_mlp(mlp: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The gated MLP of all known families; on a CPU slice by slice of its inner width, which need not be held whole."""
    import torch

    linear = torch.nn.functional.linear
    gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    inner, width = gate.weight.shape
    step = inner if hidden.is_cuda else -(-inner // -(-inner // (MLP_SLICE * width)))
    flat = hidden.reshape(-1, width)
    out = torch.zeros_like(flat) if down.bias is None else down.bias.repeat(len(flat), 1)
    for at in range(0, inner, step):
        part = slice(at, at + step)
        gated = mlp.act_fn(linear(flat, gate.weight[part], None if gate.bias is None else gate.bias[part]))
        gated *= linear(flat, up.weight[part], None if up.bias is None else up.bias[part])
        out.addmm_(gated, down.weight[:, part].T)
    return out.view_as(hidden)
