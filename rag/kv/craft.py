"""Cache-Craft (2502.15734): how much of a chunk read in one context must be computed again in another.

Chunks are told apart by their token ids. The fixed prefix is part of every context and counts as no chunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rag.kv.capture import read_watched
from rag.kv.states import ChunkStates
from rag.runtime.meter import Meter

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel

Ids = tuple[int, ...]
BLOCK_BYTES = 2**24
"""Work space for attention rows: as many query heads at once as fit, at least one."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a chunk attended to when it was read; sums of attention, mean over heads and layers.

    before  the chunks that stood before it, in order;  inter  (before,) its attention to each of them
    cci     cache context impact, in [0.5, 1): how much it looked beyond itself
    tokens  (tokens,) each token's attention to all of ``before``
    """

    before: tuple[Ids, ...] = ()
    inter: tuple[float, ...] = ()
    cci: float = 0.5
    tokens: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """A chunk's states as it was read behind other chunks."""

    states: ChunkStates
    context: Context


def read_variants(
    model: LanguageModel,
    chunks: Sequence[Sequence[int]],
    meter: Meter,
    *,
    prefix: ChunkStates | None = None,
) -> list[Variant]:
    """Each chunk's states and statistics in the full prefill of all of them in order, on the model's device."""
    rows = [tuple(ids) for ids in chunks]
    bounds = [0, *accumulate(map(len, rows))]
    spans = list(pairwise(bounds))
    past = len(prefix.ids) if prefix else 0
    sums = _Sums(past, spans)
    whole = read_watched(model, [token for row in rows for token in row], meter, sums.add, prefix=prefix)
    found = []
    for i, (ids, (start, stop)) in enumerate(zip(rows, spans, strict=True)):
        cut = (whole.keys[:, :, start:stop].contiguous(), whole.values[:, :, start:stop].contiguous())
        found.append(Variant(ChunkStates(ids, *cut, past + start), sums.context(i, rows)))
    return found


class _Sums:
    """Attention between the chunks of one pass, summed while it runs."""

    def __init__(self, past: int, spans: Sequence[tuple[int, int]]) -> None:
        self._past, self._spans, self._layers = past, spans, 0
        self._between = np.zeros((len(spans), len(spans)))
        self._tokens = np.zeros(spans[-1][1] if spans else 0)

    def add(self, _: int, query: torch.Tensor, key: torch.Tensor) -> None:
        weights = _mean_attention(query[0], key[0])[:, self._past :].double().cpu().numpy()
        for i, (start, stop) in enumerate(self._spans):
            for j, (left, right) in enumerate(self._spans[: i + 1]):
                self._between[i, j] += weights[start:stop, left:right].sum()
            self._tokens[start:stop] += weights[start:stop, :start].sum(axis=1)
        self._layers += 1

    def context(self, chunk: int, rows: Sequence[Ids]) -> Context:
        start, stop = self._spans[chunk]
        if start == stop:
            return Context(tuple(rows[:chunk]), (0.0,) * chunk, 0.5, np.zeros(0, np.float32))
        between = self._between[chunk] / self._layers
        length = stop - start
        inter = tuple(float(x) for x in between[:chunk])
        outside = sum(x / (length * len(row)) for x, row in zip(inter, rows[:chunk], strict=True) if row)
        tokens = (self._tokens[start:stop] / self._layers).astype(np.float32)
        return Context(tuple(rows[:chunk]), inter, cci(outside, float(between[chunk]) / length**2), tokens)


def _mean_attention(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(rows, keys) float32: causal softmax rows, mean over query heads. Rows are the last of the keys."""
    import torch

    heads, rows, width = query.shape
    keys, group = key.shape[1], heads // key.shape[0]
    hidden = torch.ones(rows, keys, dtype=torch.bool, device=query.device).triu_(keys - rows + 1)
    total = torch.zeros(rows, keys, dtype=torch.float32, device=query.device)
    step = max(1, min(group, BLOCK_BYTES // (4 * max(1, rows * keys))))
    for at in range(0, heads, group):
        for first in range(at, at + group, step):
            few = query[first : min(first + step, at + group)].float() * width**-0.5
            scores = (few @ key[at // group].float().T).masked_fill_(hidden, float("-inf"))
            total += scores.softmax(dim=-1).sum(dim=0)
    return total / heads


def cci(outside: float, inside: float) -> float:
    """Cache context impact, eq. 11, of attention a token pair to other chunks and within: in [0.5, 1)."""
    ratio = outside / inside
    return 1.0 / (1.0 + math.exp(-min(ratio, 30.0)))


def overlap(context: Context, before: Sequence[Ids]) -> float:
    """beta: the share of attention to other chunks that went to chunks which are there again."""
    total = sum(context.inter)
    there = set(before)
    return (
        sum(x for x, ids in zip(context.inter, context.before, strict=True) if ids in there) / total if total else 0.0
    )


def order_penalty(old: Sequence[Ids], new: Sequence[Ids]) -> float:
    """gamma: Kendall's tau distance of the chunks in both, 0 the same order to 1 reversed; 0 for less than two."""
    place = {
        ids: i for i, ids in reversed(list(enumerate(new)))
    }  # a chunk that is there twice counts where it is first
    common = [place[ids] for ids in dict.fromkeys(old) if ids in place]
    pairs = list(combinations(common, 2))
    return sum(a > b for a, b in pairs) / len(pairs) if pairs else 0.0


def cfo(context: Context, before: Sequence[Ids], alpha: float = 1.0) -> float:
    """Cache fix overhead: the share of the chunk's tokens to compute again behind the chunks ``before``, 0 to 1.

    A chunk that was read behind no other lacks its context wherever there is one: nothing overlaps, alpha * CCI.
    """
    if tuple(before) == context.before:
        return 0.0
    same = overlap(context, before) * (1.0 - order_penalty(context.before, before))
    return min(1.0, max(0.0, alpha * context.cci * (1.0 - same)))


def choose(variants: Sequence[Variant], before: Sequence[Ids], alpha: float = 1.0) -> Variant:
    """The variant of a chunk with the least to compute again; the first of equals."""
    return min(variants, key=lambda variant: cfo(variant.context, before, alpha))


def wanting(context: Context, length: int, share: float) -> list[int]:
    """Places in the chunk of the ceil(share * length) tokens that attended most to other chunks, ascending.

    Where no other chunk stood before it these are its first tokens.
    """
    count = min(length, math.ceil(round(share * length, 9)))
    tokens = np.zeros(length) if context.tokens is None else context.tokens
    return sorted(int(i) for i in np.argsort(-tokens, kind="stable")[:count])
