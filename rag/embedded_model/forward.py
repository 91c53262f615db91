"""The whole model over batches, with masks that transformers' own attention functions do not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "kvasir-masked"


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention, or that of the mask (B, 1, T, T) bool."""
    import torch

    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling, is_causal=attention_mask is None, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous(), None


def hidden_states(
    model: torch.nn.Module,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor | None = None,
    below: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T, width) each: normed hidden states of ids (B, T) at positions (B, T), and the states below a layer."""
    core: Any = model.model
    hidden: torch.Tensor = core.embed_tokens(ids)
    rope = core.rotary_emb(hidden, position_ids=positions)
    under = hidden
    for number, layer in enumerate(core.layers):
        under = hidden if number == below else under
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rope)
    normed: torch.Tensor = core.norm(hidden)
    return normed, under


def masked(model: Any) -> None:
    """The model's attention function becomes this module's, which takes any mask."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)
