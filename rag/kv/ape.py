"""APE (2502.05431): chunks that all stand at the same positions behind the prefix, a set instead of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from rag.kv.modes import Mode
from rag.runtime.attention import Contexts


def shared_positions(start: int, lengths: Sequence[int]) -> list[int]:
    """The position of every token of chunks of these lengths, each chunk from ``start`` on."""
    return list(chain.from_iterable(range(start, start + length) for length in lengths))


def shift(lengths: Sequence[int]) -> int:
    """How far positions lie below places behind the chunks: what follows stands behind the longest of them."""
    return sum(lengths) - max(lengths, default=0)


def correction(mode: Mode, start: int, stop: int) -> Contexts | None:
    """The correction of attention to the chunks' keys; None where it changes nothing."""
    if start == stop or (mode.temperature, mode.scale) == (1.0, 1.0):
        return None
    return Contexts(start, stop, mode.temperature, mode.scale)
