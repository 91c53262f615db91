"""The embedded model's shape: a small Llama, so that transformers and Kvasir's runtime load it as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

CONTEXT = 2048
ROPE_THETA = 1e6
EMBEDDING, RESIDUAL = 0.05, 0.02
"""Standard deviation of the embeddings; of what writes into the residual stream, as a share of the other matrices'."""
TIED, FAST = 0.12, 0.4375
"""Of the taught heads' first weights: the standard deviation, and the share of channels, the fast ones, that are 0."""
HEADS = ((3, 0), (3, 1), (3, 2), (3, 3), (4, 0), (4, 1), (4, 2), (4, 3))
"""(layer, head) whose attention is taught to lie on the relevant passage: the head set of attention reranking."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes; the default has 6.5 million parameters. ``heads`` are those of HEADS' kind that are taught."""

    vocabulary: int = 8192
    width: int = 256
    layers: int = 6
    query_heads: int = 8
    key_heads: int = 4
    inner: int = 704
    context: int = CONTEXT
    heads: tuple[tuple[int, int], ...] = HEADS

    @property
    def by_layer(self) -> dict[int, tuple[int, ...]]:
        layers = sorted({layer for layer, _ in self.heads})
        return {layer: tuple(head for at, head in self.heads if at == layer) for layer in layers}


def new_model(shape: Shape, seed: int, controls: tuple[int, int, int] = (0, 1, 2)) -> LlamaForCausalLM:
    """Random weights by seed, float32. ``controls`` are the ids of begin, end and pad.

    Matrices that write into the residual stream start near 0, so that every layer first sees the tokens themselves.
    The taught heads start with keys that equal their queries, in the channels that positions turn slowly: they attend
    to the question's own words before anything is learned, and training goes on from there.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    begin, end, pad = controls
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.key_heads,
        head_dim=shape.width // shape.query_heads,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=pad,
    )
    torch.manual_seed(seed)
    model: LlamaForCausalLM = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                std = EMBEDDING if "embed" in name else shape.width**-0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std *= RESIDUAL
                parameter.normal_(std=std, generator=generator)
        for layer, head in shape.heads:
            _tie(model.model.layers[layer].self_attn, head, shape, generator)
    return model


def _tie(attention: Any, head: int, shape: Shape, generator: torch.Generator) -> None:
    """Query and key matrix of a head become equal, and 0 in the channels that turn fast."""
    import torch

    size, group = shape.width // shape.query_heads, shape.query_heads // shape.key_heads
    rows = slice(head // group * size, (head // group + 1) * size)
    if head % group == 0:
        weights = torch.randn(size, shape.width, generator=generator) * TIED
        turned = torch.arange(size) % (size // 2) < FAST * (size // 2)
        attention.k_proj.weight[rows] = weights.masked_fill(turned[:, None], 0.0)
    attention.q_proj.weight[head * size : (head + 1) * size] = attention.k_proj.weight[rows]
