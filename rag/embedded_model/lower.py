"""The layers up to the last taught head, over topics: how much attention every query pays to every passage.

The attention of queries is computed once, by the fused kernel: values are made longer by a one-hot of the token's
passage, so that the same product that mixes values adds up the weights on each passage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag.embedded_model.architecture import Shape
from rag.embedded_model.topic_batch import SHARED, TopicBatch

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
    from torch.nn.functional import pad

    core, heads = model.model, shape.by_layer
    last = max(heads)
    group = shape.query_heads // shape.key_heads
    size = shape.width // shape.query_heads
    topics, sequences, length = batch.ids.shape
    keys, own = sequences * length, batch.query_ids.shape[1]
    passages = batch.inside.shape[2]
    wide = -(passages + size) % 16 + passages
    bias = _bias(batch)
    hot = pad(batch.inside, (0, wide - passages, 0, own))
    member = _member(batch)
    hidden = core.embed_tokens(torch.cat((batch.ids.flatten(1), batch.query_ids), dim=1))
    places = torch.cat((batch.positions.flatten(1), batch.query_positions), dim=1)
    cos, sin = (each[:, :, None] for each in core.rotary_emb(hidden, position_ids=places))
    masses = []

    def apart(states: torch.Tensor) -> torch.Tensor:
        """(G, h, S*T + M, d) -> (G*S, h, T, d): each sequence alone."""
        cut = states[:, :, :keys].reshape(topics, -1, sequences, length, size)
        return cut.transpose(1, 2).flatten(0, 1)

    for number, layer in enumerate(core.layers[: last + 1]):
        attention = layer.self_attn
        normed = layer.input_layernorm(hidden)
        query = attention.q_proj(normed).unflatten(2, (-1, size))
        key = attention.k_proj(normed).unflatten(2, (-1, size))
        query, key = (_turned(each, cos, sin).to(query.dtype).transpose(1, 2) for each in (query, key))
        value = attention.v_proj(normed).unflatten(2, (-1, size)).transpose(1, 2)
        taught = heads.get(number, ())
        chosen = list(taught) if number == last else list(range(shape.query_heads))
        of = [head // group for head in chosen]
        asked = query[:, chosen, keys:]
        if taught:
            counted = hot[:, None].expand(-1, len(of), -1, -1).to(value.dtype)
            out = torch.nn.functional.scaled_dot_product_attention(
                pad(asked, (0, wide)),
                pad(key[:, of], (0, wide)),
                torch.cat((value[:, of], counted), dim=3),
                attn_mask=bias.to(asked.dtype),
                scale=size**-0.5,
            )
            weights = out[:, [chosen.index(head) for head in taught], :, size : size + passages].float()
            with torch.autocast(weights.device.type, enabled=False):
                masses.append(member[:, None] @ weights)
            out = out[..., :size]
        else:
            out = torch.nn.functional.scaled_dot_product_attention(
                asked, key[:, of], value[:, of], attn_mask=bias.to(asked.dtype)
            )
        if number == last:
            break
        alone = torch.nn.functional.scaled_dot_product_attention(
            apart(query), apart(key), apart(value), is_causal=True, enable_gqa=True
        )
        alone = alone.reshape(topics, sequences, -1, length, size).transpose(1, 2).flatten(2, 3)
        mixed = torch.cat((alone, out), dim=2).transpose(1, 2).flatten(2)
        hidden = hidden + attention.o_proj(mixed)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    with torch.autocast(hidden.device.type, enabled=False):
        states = hidden.float()
        return Paid(
            torch.cat(masses, dim=1),
            _mean(batch.inside.transpose(1, 2), states[:, :keys]),
            _mean(member, states[:, keys:]),
        )


def _bias(batch: TopicBatch) -> torch.Tensor:
    """(G, 1, M, S*T + M): 0 where a query's token sees, else -inf. A query sees passages, what is shared, itself."""
    import torch

    asked, at = batch.asked, batch.query_positions
    own = (asked[:, :, None] == asked[:, None, :]) | (asked[:, None, :] == SHARED)
    own &= at[:, :, None] >= at[:, None, :]
    sees = torch.cat((batch.seen[:, None].expand(-1, own.shape[1], -1), own), dim=2)
    return torch.zeros(sees.shape, device=sees.device).masked_fill(~sees, float("-inf"))[:, None]


def _member(batch: TopicBatch) -> torch.Tensor:
    """(G, N, M) float: 1 where a token is the query's."""
    import torch

    numbers = torch.arange(batch.present.shape[1], device=batch.asked.device)
    return (batch.asked[:, None, :] == numbers[:, None]).float()


def _mean(member: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    return member @ states / member.sum(dim=2, keepdim=True).clamp(min=1)


def _turned(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    import torch

    half = states.shape[-1] // 2
    return states * cos + torch.cat((-states[..., half:], states[..., :half]), dim=-1) * sin
