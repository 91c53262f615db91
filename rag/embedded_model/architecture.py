"""The embedded model's shape: a small Llama, so that transformers and Kvasir's runtime load it as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import LlamaForCausalLM

CONTEXT = 8192
"""Positions a prompt may have. Topics are trained on up to 4,300 of them, texts on fewer."""
ROPE_THETA = 1e10
"""So large that ten of sixteen channel pairs hardly turn within the context: words are matched in them."""
GIVEN = 0.5
"""Share of the embeddings' variance that is given; the rest is random, so that rare tokens are told apart."""
RESIDUAL, FINAL = 0.02, 0.03
"""Standard deviation of what writes into the residual stream, as a share of the other matrices'; the final norm's
weight, small because the embeddings, that are the output matrix too, have standard deviation 1."""
SHARPNESS, FAST = 20.0, 0.375
"""Of the taught heads: the first logit of a token's attention to an equal one, where others have 0 on average and the
best of 1,500 about 14; the share of channels, those that positions turn fast, that are 0."""
HEADS = ((1, 0), (1, 2), (1, 4), (1, 6), (2, 0), (2, 2), (2, 4), (2, 6))
"""(layer, head) whose attention is taught to lie on the relevant passage: the head set of attention reranking.
One of each key head, so that all differ; two early layers, because layers above are not run for it."""


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


def new_model(
    shape: Shape, seed: int, controls: tuple[int, int, int] = (0, 1, 2), vectors: NDArray[np.float32] | None = None
) -> LlamaForCausalLM:
    """Random weights by seed, float32. ``controls`` are the ids of begin, end and pad.

    Embeddings have standard deviation 1; ``vectors`` (vocabulary, width), of the same, are a share of them.
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
                std = 1.0 if "embed" in name else shape.width**-0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std *= RESIDUAL
                parameter.normal_(std=std, generator=generator)
        if vectors is not None:
            embeddings = model.model.embed_tokens.weight
            embeddings.mul_((1 - GIVEN) ** 0.5).add_(torch.from_numpy(vectors), alpha=GIVEN**0.5)
        model.model.norm.weight.fill_(FINAL)
        for layer, head in shape.heads:
            _tie(model.model.layers[layer].self_attn, head, shape, generator)
    return model


def _tie(attention: Any, head: int, shape: Shape, generator: torch.Generator) -> None:
    """Query and key matrix of a head become equal: orthogonal rows, and 0 in the channels that turn fast.

    The square of a row's product with a token, of length sqrt(width), is the square of the row's length on average.
    """
    import torch

    size, group = shape.width // shape.query_heads, shape.query_heads // shape.key_heads
    rows = slice(head // group * size, (head // group + 1) * size)
    if head % group == 0:
        turned = torch.arange(size) % (size // 2) < FAST * (size // 2)
        slow = size - 2 * math.ceil(FAST * (size // 2))
        directions, _ = torch.linalg.qr(torch.randn(shape.width, size, generator=generator))
        weights = directions.T * (SHARPNESS * size**0.5 / slow) ** 0.5
        attention.k_proj.weight[rows] = weights.masked_fill(turned[:, None], 0.0)
    attention.q_proj.weight[head * size : (head + 1) * size] = attention.k_proj.weight[rows]
