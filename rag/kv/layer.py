"""One decoder layer of the known families, taken apart where its keys are not rotated yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag.runtime.parts import gated_mlp

if TYPE_CHECKING:
    import torch


def projected(layer: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, raw keys and values (B, heads, T, d) of a layer's input (B, T, width); keys behind the k-norm."""
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    shape = (*hidden.shape[:-1], -1, attention.head_dim)
    query, key = attention.q_proj(normed).view(shape), attention.k_proj(normed).view(shape)
    if hasattr(attention, "k_norm"):
        query, key = attention.q_norm(query), attention.k_norm(key)
    value = attention.v_proj(normed).view(shape)
    return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)


def finish(layer: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> None:
    """Turn a layer's input (B, T, width) into its output in place; ``mixed`` (B, T, heads, d) comes from attention."""
    hidden += layer.self_attn.o_proj(mixed.reshape(*mixed.shape[:-2], -1))
    hidden += gated_mlp(layer.mlp, layer.post_attention_layernorm(hidden))
