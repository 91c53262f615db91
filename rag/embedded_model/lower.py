"""The layers up to the last taught head, over topics: how much attention every query pays to every passage.

The attention of queries is computed once, by the fused kernel: values are made longer by a one-hot of the token's
passage, so that the same product that mixes values adds up the weights on each passage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag.embedded_model.architecture import Shape
from rag.embedded_model.topic_batch import SHARED, TopicBatch
from rag.kv.rope import rotated

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Paid:
    """masses (G, heads, N, P) float32: attention summed over a query's tokens and a passage's; heads by layer.

    passages (G, P, width), queries (G, N, width)  mean states below the last taught layer, for the probe
    """

    masses: torch.Tensor
    passages: torch.Tensor
    queries: torch.Tensor


def paid(model: Any, shape: Shape, batch: TopicBatch) -> Paid:
    """Layers above the last taught head are not run."""
    import torch

    core, heads = model.model, shape.by_layer
    last = max(heads)
    size = shape.width // shape.query_heads
    topics, sequences, length = batch.ids.shape
    keys = sequences * length
    sees, member = _sees(batch), _member(batch)
    hidden = core.embed_tokens(torch.cat((batch.ids.flatten(1), batch.query_ids), dim=1))
    places = torch.cat((batch.positions.flatten(1), batch.query_positions), dim=1)
    rope = core.rotary_emb(hidden, position_ids=places)
    masses = []

    def apart(states: torch.Tensor) -> torch.Tensor:
        """(G, h, S*T + M, d) -> (G*S, h, T, d): each sequence alone."""
        cut = states[:, :, :keys].reshape(topics, -1, sequences, length, size)
        return cut.transpose(1, 2).flatten(0, 1)

    for number, layer in enumerate(core.layers[: last + 1]):
        attention = layer.self_attn
        normed = layer.input_layernorm(hidden)
        parts = (attention.q_proj(normed), attention.k_proj(normed), attention.v_proj(normed))
        query, key, value = (part.unflatten(2, (-1, size)).transpose(1, 2) for part in parts)
        query, key = rotated(query, rope).to(value.dtype), rotated(key, rope).to(value.dtype)
        mixed, weights = _asked(query[:, :, keys:], key, value, batch.inside, sees)
        if number in heads:
            with torch.autocast(weights.device.type, enabled=False):
                masses.append(member[:, None] @ weights[:, list(heads[number])].float())
        if number == last:
            break
        alone = torch.nn.functional.scaled_dot_product_attention(
            apart(query), apart(key), apart(value), is_causal=True, enable_gqa=True
        )
        alone = alone.reshape(topics, sequences, -1, length, size).transpose(1, 2).flatten(2, 3)
        hidden = hidden + attention.o_proj(torch.cat((alone, mixed), dim=2).transpose(1, 2).flatten(2))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    with torch.autocast(hidden.device.type, enabled=False):
        states = hidden.float()
        return Paid(
            torch.cat(masses, dim=1),
            _mean(batch.inside.transpose(1, 2), states[:, :keys]),
            _mean(member, states[:, keys:]),
        )


def _asked(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, inside: torch.Tensor, sees: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixed values (G, H, M, d) of queries (G, H, M, d), and their weights (G, H, M, P), summed over each passage."""
    import torch
    from torch.nn.functional import pad

    size, passages = query.shape[3], inside.shape[2]
    wide = passages + -(passages + size) % 16  # heads of a multiple of 16 are fast
    hot = pad(inside, (0, wide - passages, 0, key.shape[2] - inside.shape[1]))
    counted = hot[:, None].expand(-1, key.shape[1], -1, -1).to(value.dtype)
    out = torch.nn.functional.scaled_dot_product_attention(
        pad(query, (0, wide)),
        pad(key, (0, wide)),
        torch.cat((value, counted), dim=3),
        attn_mask=sees,
        scale=size**-0.5,
        enable_gqa=True,
    )
    return out[..., :size], out[..., size : size + passages]


def _sees(batch: TopicBatch) -> torch.Tensor:
    """(G, 1, M, S*T + M) bool: what a query's token sees: passages, what is shared, itself."""
    import torch

    asked, at = batch.asked, batch.query_positions
    own = (asked[:, :, None] == asked[:, None, :]) | (asked[:, None, :] == SHARED)
    own &= at[:, :, None] >= at[:, None, :]
    return torch.cat((batch.seen[:, None].expand(-1, own.shape[1], -1), own), dim=2)[:, None]


def _member(batch: TopicBatch) -> torch.Tensor:
    """(G, N, M) float: 1 where a token is the query's."""
    import torch

    numbers = torch.arange(batch.present.shape[1], device=batch.asked.device)
    return (batch.asked[:, None, :] == numbers[:, None]).float()


def _mean(member: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    return member @ states / member.sum(dim=2, keepdim=True).clamp(min=1)
