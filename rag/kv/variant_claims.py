"""What must be true of variants: at their place they are the full prefill, stored or not, and the nearest is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rag.kv.attended import read_variants
from rag.kv.cachecheck import Bench, difference
from rag.kv.contexts import packed
from rag.kv.craft import Between, Context, Variant, choose, share
from rag.kv.in_place import InPlace
from rag.kv.layout import encode, parse
from rag.kv.modes import parse_mode
from rag.kv.plan import Chunk, Ids, pieces_of
from rag.kv.quantize import Scheme
from rag.runtime.meter import Meter

if TYPE_CHECKING:
    import torch

_CRAFT = parse_mode("craft")
_SCHEMES: dict[str, Scheme] = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def context(b: Bench) -> None:
    """Chunks that were read behind other chunks fit exactly behind the same ones."""
    variants = read_variants(b.model, b.rows, Meter(), prefix=b.prefix)
    full = b.full(b.head, *b.rows)
    for mode in ("prefix", "independent", "craft"):
        b.agree(f"read behind the same chunks: {mode} = full prefill", b.logits(b.prefix, variants, mode), full)


def in_place(b: Bench) -> None:
    """Chunks read in a composition, something between them, are what the full prefill reads; so they come back."""
    between = Between(b.suffix[:2])
    texts: list[Ids | Between] = [b.rows[0], between, b.rows[1], between, b.rows[2]]
    wanted = read_variants(b.model, texts, Meter(), prefix=b.prefix)
    chunks: list[Chunk] = [wanted[0], *texts[1:]]
    watch = InPlace(b.model, _CRAFT, pieces_of(b.prefix, chunks), [3, 5])
    b.compose(b.prefix, chunks, _CRAFT, watch=watch)
    made = watch.variants()
    states = zip(made, wanted[1:], strict=True)
    worst = max(difference(x, y) for one, two in states for x, y in zip(_tensors(one), _tensors(two), strict=True))
    b.note("read where they stand = the full prefill's states", b.tolerance, worst)
    back = [_stored(b, one) for one in made]
    pairs = list(zip(made, back, strict=True))
    b.note("a context, stored and read: bytes", 0, sum(_bytes(one) != _bytes(two) for one, two in pairs))
    full = b.full(b.head, b.rows[0], between.ids, b.rows[1], between.ids, b.rows[2])
    placed: list[Chunk] = [wanted[0], between, back[0], between, back[1]]
    composed = b.compose(b.prefix, placed, _CRAFT)
    b.agree("stored variants at their place = full prefill", b.logits(b.prefix, placed, _CRAFT), full)
    b.note("tokens computed again of them", 0, composed.recomputed * len(composed.ids) - 2 * len(between.ids))


def choice(b: Bench) -> None:
    """Of the variants of a chunk the one read behind the same chunks is taken, and the others cost what CFO says."""
    first, second, last = b.rows
    orders = ([first, second, last], [second, first, last], [first[::-1], second[::-1], last])
    contexts = [read_variants(b.model, rows, Meter(), prefix=b.prefix)[2].context for rows in orders]
    wrong = sum(choose(contexts, one.before, one.front) != at for at, one in enumerate(contexts))
    b.note("chosen for another's place", 0, wrong)
    same, turned, other = (share(one, contexts[0].before, contexts[0].front) for one in contexts)
    far = abs(turned - contexts[1].cci) + abs(other - contexts[2].cci)
    b.note("share: the same order 0, reversed and disjoint alpha * CCI", 1e-9, same + far)
    outside = sum(not 0.5 <= one.cci < 1.0 for one in contexts)
    b.note("CCI outside [0.5, 1)", 0, outside)


def _stored(b: Bench, variant: Variant) -> Variant:
    value = encode(variant.states, _SCHEMES[b.dtype], "", "c0", context=variant.context)
    stored = parse(value)
    return Variant(stored.read(), stored.context)


def _bytes(variant: Variant) -> bytes:
    context: Context = variant.context
    return msgspec.msgpack.encode(packed(context))


def _tensors(variant: Variant) -> tuple[torch.Tensor, torch.Tensor]:
    return variant.states.keys.cpu(), variant.states.values.cpu()
