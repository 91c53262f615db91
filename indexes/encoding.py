"""What the stores need from a text encoder; ``rag.encoders`` holds the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


@runtime_checkable
class TextEncoder(Protocol):
    """Texts to unit vectors, so that the inner product is the cosine."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same text could get another vector."""

    @property
    def dimension(self) -> int: ...

    def encode_passages(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Matrix:
        """(n, dimension) float32, rows of unit length. ``progress`` hears how many are done."""

    def encode_query(self, text: str) -> Matrix:
        """(dimension,) float32 of unit length."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the tokenizer's own special tokens."""
