"""What chunks attended to while they were read, and chunks read one behind the other for it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from rag.kv.capture import read_watched
from rag.kv.craft import Between, Context, Variant, cci
from rag.kv.key import fronts, token_hash
from rag.kv.states import ChunkStates
from rag.runtime.meter import Meter

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel

Span = tuple[int, int]
"""Places in a prompt, half open."""
BLOCK_BYTES = 2**24
"""Work space for attention rows: as many of a chunk's rows, and of query heads, at once as fit; at least one."""


class Attended:
    """Attention of one chunk to the chunks before it and to itself, summed over the layers it is told of."""

    def __init__(self, before: Sequence[Span], span: Span) -> None:
        self._before, self.span, self._layers = list(before), span, 0
        self._inter, self._intra = np.zeros(len(before)), 0.0
        self._tokens = np.zeros(span[1] - span[0])

    def add(self, query: torch.Tensor, key: torch.Tensor) -> None:
        """One layer: the chunk's rotated queries (heads, tokens, d), and rotated keys (kv_heads, >= span's end, d)."""
        start, stop = self.span
        step = max(1, BLOCK_BYTES // (4 * max(1, stop)))
        for first in range(0, stop - start, step):
            rows = slice(first, min(first + step, stop - start))
            weights = mean_attention(query[:, rows], key[:, : start + rows.stop]).double().cpu().numpy()
            for at, (left, right) in enumerate(self._before):
                each = weights[:, left:right].sum(axis=1)
                self._inter[at] += each.sum()
                self._tokens[rows] += each
            self._intra += weights[:, start:].sum()
        self._layers += 1

    def context(self, before: Sequence[str], front: str, *, exact: bool = True) -> Context:
        """The means over layers. Names are those of the chunks before it."""
        length, layers = len(self._tokens), max(1, self._layers)
        inter = tuple(float(x) for x in self._inter / layers)
        tokens = (self._tokens / layers).astype(np.float32)
        if not length or not self._layers:
            return Context(tuple(before), inter, 0.5, tokens, front, exact)
        pairs = zip(inter, self._before, strict=True)
        outside = sum(x / (length * (right - left)) for x, (left, right) in pairs if right > left)
        impact = cci(outside, float(self._intra) / layers / length**2)
        return Context(tuple(before), inter, impact, tokens, front, exact)


def read_variants(
    model: LanguageModel,
    rows: Sequence[Sequence[int] | Between],
    meter: Meter,
    *,
    prefix: ChunkStates | None = None,
) -> list[Variant]:
    """Each chunk's states and statistics in the full prefill of all rows in order, on the model's device.

    What is Between them is read with them, and comes back as nothing.
    """
    texts = [row.ids if isinstance(row, Between) else tuple(row) for row in rows]
    past = len(prefix.ids) if prefix else 0
    spans = list(pairwise(accumulate(map(len, texts), initial=past)))
    chunks = [at for at, row in enumerate(rows) if not isinstance(row, Between)]
    sums = [Attended([spans[i] for i in chunks if i < at and texts[i]], spans[at]) for at in chunks]

    def watch(layer: int, query: torch.Tensor, key: torch.Tensor) -> None:
        for one in sums:
            start, stop = one.span
            one.add(query[0][:, start - past : stop - past], key[0])

    whole = read_watched(model, [token for ids in texts for token in ids], meter, watch, prefix=prefix)
    names, front = [token_hash(ids) for ids in texts], list(fronts(texts))
    found = []
    for at, one in zip(chunks, sums, strict=True):
        cut = slice(spans[at][0] - past, spans[at][1] - past)
        states = (whole.keys[:, :, cut].contiguous(), whole.values[:, :, cut].contiguous())
        before = [names[i] for i in chunks if i < at and texts[i]]
        found.append(Variant(ChunkStates(texts[at], *states, spans[at][0]), one.context(before, front[at])))
    return found


def mean_attention(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
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
