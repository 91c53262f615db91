"""Chunk states without a model, and values of any size."""

from __future__ import annotations

import random

import torch

from rag.kv.key import Fingerprint
from rag.kv.layout import encode
from rag.kv.states import ChunkStates

FINGERPRINT = Fingerprint(weights="w", config="{}", tokenizer="t", scheme="bfloat16")


def chunk(
    seed: int = 0,
    tokens: int = 5,
    *,
    layers: int = 2,
    heads: int = 2,
    head_dim: int = 8,
    dtype: torch.dtype = torch.bfloat16,
    behind: int = 3,
) -> ChunkStates:
    """States drawn from a seed; the token ids begin with it, so that two seeds never have the same."""
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, layers, heads, tokens, head_dim, generator=generator).to(dtype)
    ids = (seed, *(random.Random(seed).randrange(50_000) for _ in range(tokens - 1)))
    return ChunkStates(ids, keys, values, behind)


def value(seed: int = 0, nbytes: int = 200) -> bytes:
    """A value that a store takes without looking into it."""
    return random.Random(seed).randbytes(nbytes)


def encoded(states: ChunkStates, fingerprint: str = "00" * 8) -> bytes:
    return bytes(encode(states, "bf16", fingerprint))


def same(one: ChunkStates | None, other: ChunkStates) -> bool:
    """True where ids, place and every bit are equal."""
    return (
        one is not None
        and (one.ids, one.behind) == (other.ids, other.behind)
        and one.keys.dtype == other.keys.dtype
        and torch.equal(one.keys, other.keys)
        and torch.equal(one.values, other.values)
    )
