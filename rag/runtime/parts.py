"""How much of a prompt is computed at once, so that work space stays small beside the states that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WORK_SHARE = 0.08
"""Work space of a prefill on a CPU, as a share of the prompt's key/value states."""
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
    used = (2 * config.intermediate_size + 8 * config.hidden_size) * size + 5 * total  # 5: the mask, bool and float
    return int(min(MAX_PART, max(MIN_PART, WORK_SHARE * kept * total / used)))


def gated_mlp(mlp: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The gated MLP of all known families, with two tensors of its inner width at a time instead of four."""
    gated = mlp.act_fn(mlp.gate_proj(hidden))
    gated *= mlp.up_proj(hidden)
    out: torch.Tensor = mlp.down_proj(gated)
    return out
