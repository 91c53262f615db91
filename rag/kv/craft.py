"""Cache-Craft (2502.15734): how much of a chunk read in one context must be computed again in another.

Chunks are told apart by the ``token_hash`` of their ids. The fixed prefix is part of every context and counts as no
chunk; nor does what stands between chunks, whose share of the attention is nobody's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rag.kv.states import ChunkStates

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a chunk attended to when it was read; sums of attention, mean over heads and layers.

    before  names of the chunks that stood before it, in order;  inter  (before,) its attention to each of them
    cci     cache context impact, in [0.5, 1): how much it looked beyond itself
    tokens  (tokens,) each token's attention to all of ``before``
    front   ``token_hash`` of every token between the prefix and the chunk, chunks' or not; "" where there were none
    exact   true where the states of all of them were those of the full prefill
    through names of chunks that stood before one of these when it was read, and not here: their text is in it yet
    """

    before: tuple[str, ...] = ()
    inter: tuple[float, ...] = ()
    cci: float = 0.5
    tokens: NDArray[np.float32] | None = None
    front: str = ""
    exact: bool = True
    through: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Between:
    """Token ids that are no chunk's: computed where they stand, and part of no context."""

    ids: Ids


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """A chunk's states as it was read behind other chunks."""

    states: ChunkStates
    context: Context


def cci(outside: float, inside: float) -> float:
    """Cache context impact, eq. 11, of attention a token pair to other chunks and within: in [0.5, 1)."""
    ratio = outside / inside
    return 1.0 / (1.0 + math.exp(-min(ratio, 30.0)))


def overlap(context: Context, before: Sequence[str]) -> float:
    """beta: the share of attention to other chunks that went to chunks which are there again."""
    total = sum(context.inter)
    there = set(before)
    return (
        sum(x for x, name in zip(context.inter, context.before, strict=True) if name in there) / total if total else 0.0
    )


def order_penalty(old: Sequence[str], new: Sequence[str]) -> float:
    """gamma: Kendall's tau distance of the chunks in both, 0 the same order to 1 reversed; 0 for less than two."""
    place = {
        name: i for i, name in reversed(list(enumerate(new)))
    }  # a chunk that is there twice counts where it is first
    common = [place[name] for name in dict.fromkeys(old) if name in place]
    pairs = list(combinations(common, 2))
    return sum(a > b for a, b in pairs) / len(pairs) if pairs else 0.0


def cfo(context: Context, before: Sequence[str], alpha: float = 1.0) -> float:
    """Cache fix overhead: the share of the chunk's tokens to compute again behind the chunks ``before``, 0 to 1.

    A chunk that was read behind no other lacks its context wherever there is one: nothing overlaps, alpha * CCI.
    """
    if tuple(before) == context.before:
        return 0.0
    same = overlap(context, before) * (1.0 - order_penalty(context.before, before))
    return min(1.0, max(0.0, alpha * context.cci * (1.0 - same)))


def share(context: Context, before: Sequence[str], front: str, alpha: float = 1.0) -> float:
    """``cfo`` behind the tokens ``front``, of which ``before`` are the chunks.

    Nothing where these are the tokens it was read behind. Behind the same chunks with something else between them all
    of its context has changed, and nothing that CFO could tell apart: alpha * CCI.
    """
    if tuple(before) != context.before:
        return cfo(context, before, alpha)
    return 0.0 if front == context.front else min(1.0, alpha * context.cci)


def choose(contexts: Sequence[Context], before: Sequence[str], front: str, alpha: float = 1.0) -> int:
    """Which context of a chunk leaves the least ``share`` to compute again; the first of equals."""
    return min(range(len(contexts)), key=lambda at: share(contexts[at], before, front, alpha))


def wanting(context: Context, length: int, share: float) -> list[int]:
    """Places in the chunk of the ceil(share * length) tokens that attended most to other chunks, ascending.

    Where no other chunk stood before it these are its first tokens.
    """
    count = min(length, math.ceil(round(share * length, 9)))
    tokens = np.zeros(length) if context.tokens is None else context.tokens
    return sorted(int(i) for i in np.argsort(-tokens, kind="stable")[:count])
