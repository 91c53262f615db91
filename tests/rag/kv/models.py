"""Tiny models for cached chunk states, and prompts of random tokens."""

from __future__ import annotations

import random
from functools import cache

from rag.kv.capture import read_chunks
from rag.kv.states import ChunkStates
from rag.language_model import LanguageModel
from rag.runtime.meter import Meter
from tests.tiny_models import saved

Ids = tuple[int, ...]


@cache
def model_of(family: str = "llama", rope: str = "default", dtype: str = "float32") -> LanguageModel:
    return LanguageModel(str(saved(family, rope)), device="cpu", dtype=dtype)


def tokens(*counts: int, seed: int = 0) -> list[Ids]:
    """Rows of random token ids, all different."""
    rng = random.Random(seed)
    return [tuple(rng.randrange(500) for _ in range(count)) for count in counts]


def read(model: LanguageModel, *rows: Ids, prefix: ChunkStates | None = None) -> list[ChunkStates]:
    return read_chunks(model, rows, Meter(), prefix=prefix)
