"""What must be true of composed chunk states, claim by claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from rag.kv.ape import shared_positions, shift
from rag.kv.behind import attention_behind
from rag.kv.cachecheck import Bench, difference
from rag.kv.modes import Mode
from rag.kv.recompute import recompute
from rag.kv.reference import States, apart, stored
from rag.kv.rope import angles, rotated
from rag.kv.states import ChunkStates
from rag.kv.variant_claims import choice, context, in_place
from rag.runtime.keyvalues import KeyValues
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Segment

if TYPE_CHECKING:
    import torch

DRIFT = 4.0
"""How much more than values moved keys may differ from a forward at their new positions, both relative."""
FAR = 777
SHARES = (0.0, 0.15, 0.5, 0.9, 1.0)
UPWARD = 0.02
"""How much of its largest value the mean divergence may grow from a share to the next."""


def reading(b: Bench) -> None:
    """Chunks are read as a prefill reads them."""
    b.agree("cached prefix = one forward", b.logits(b.prefix, [], "prefix"), b.full(b.head))
    row = b.rows[2]
    (single,) = b.read([row])
    pairs = list(zip(_moved(b, single, 0), stored(_prefilled(b, row)), strict=True))
    bits = sum(int((x != y).sum()) for found, wanted in pairs for x, y in zip(found, wanted, strict=True))
    b.note("raw keys where they were read: bits", 0, bits)
    for name, many, prefix in (("alone", b.alone, None), ("behind a prefix", b.behind, b.prefix)):
        ones = [b.read([ids], prefix)[0] for ids in b.rows]
        b.note(f"read {name}, in a batch or by itself", b.tolerance, max(map(_apart, many, ones)))


def moving(b: Bench) -> None:
    """Keys stand anywhere as if they had been read there."""
    far = min(FAR, b.model.context - len(b.rows[2]))
    wanted = b.reference.states(b.rows[2], positions=range(far, far + len(b.rows[2])))
    found = _moved(b, b.alone[2], far)
    first = _moved(b, b.read([b.rows[2]])[0], far)[0][0]
    b.note(f"raw keys of layer 0 at {far}: bits", 0, int((first != wanted[0][0]).sum()))
    keys, values = (max(difference(f[i], w[i]) for f, w in zip(found, wanted, strict=True)) for i in range(2))
    noise = max(values, 4 * _epsilon(b))
    b.note(f"keys of all layers at {far}, by the values' own difference", DRIFT, keys / noise)


def ends(b: Bench) -> None:
    """Nothing computed again is the block-diagonal forward, everything is the full prefill."""
    import torch

    independent, full = b.logits(b.prefix, b.alone, "independent"), b.full(b.head, *b.rows)
    b.agree("independent = block-diagonal forward", independent, b.diagonal(b.rows))
    b.agree("read behind a prefix, then moved", b.logits(b.prefix, b.behind, "independent"), _moved_reference(b))
    for mode in ("link-0", "blend-0", "craft-0"):
        b.agree(f"{mode} = independent", b.logits(b.prefix, b.alone, mode), independent)
    for mode in ("full", "prefix", "link-31", "blend-1", "craft-2"):
        for name, chunks in (("alone", b.alone), ("behind the prefix", b.behind)):
            b.agree(f"{mode} = full prefill, chunks read {name}", b.logits(b.prefix, chunks, mode), full)
    b.agree("link-4 = a forward with its tokens twice", b.logits(b.prefix, b.alone, "link-4"), _linked_reference(b, 4))
    states = b.model.memory(1, len(b.prompt))
    everything = torch.arange(len(b.prompt))

    def again() -> None:
        recompute(b.model, states, b.prompt, everything, Meter(), lambda _: None)

    b.model.alone(Meter(), again, len(b.prompt))
    states.length = len(b.prompt)
    b.note(
        "all computed again = states of a prefill", b.tolerance, _worst(stored(states), b.reference.states(b.prompt))
    )


def parallel(b: Bench) -> None:
    """APE is parallel encoding with its correction, and knows no order."""
    lengths, start = [len(row) for row in b.rows], len(b.head)
    stop = len(b.prompt)
    behind = stop - shift(lengths)
    positions = [*range(start), *shared_positions(start, lengths), *range(behind, behind + len(b.suffix))]
    mask = apart(start, lengths, len(b.suffix), see_prefix=True)
    ids = [*b.prompt, *b.suffix]
    for mode, temperature, scale in (("ape-1-1", 1.0, 1.0), ("ape-0.9-0.8", 0.9, 0.8)):
        merged = (start, stop, temperature, scale)
        wanted = b.reference.logits(ids, mask=mask, positions=positions, merged=merged)[stop:]
        found = b.logits(b.prefix, b.behind, mode)
        b.agree(f"{mode} = parallel encoding, softmaxes merged", found, wanted)
        b.agree(f"{mode} in any order", b.logits(b.prefix, b.behind[::-1], mode), found)
    one = b.logits(b.prefix, b.behind[:1], "ape-1-1")
    b.agree("ape-1-1 of one chunk = full prefill", one, b.full(b.head, b.rows[0]))


def odd(b: Bench) -> None:
    """Orders, repetitions, lengths and offsets that have broken other caches."""
    first, second = b.alone[:2]
    for name, chunks in (("the same chunk twice", [first, first, second]), ("chunks in another order", b.alone[::-1])):
        rows = [chunk.ids for chunk in chunks]
        b.agree(f"{name}: independent", b.logits(b.prefix, chunks, "independent"), b.diagonal(rows))
        b.agree(f"{name}: link-31", b.logits(b.prefix, chunks, "link-31"), b.full(b.head, *rows))
    longer = b.read([(*b.head, *b.rows[0])])[0]
    for mode in ("independent", "link-4", "blend-0.5", "prefix"):
        without = b.logits(b.prefix, b.behind, mode)
        b.agree(f"a longer prefix hit in front: {mode}", b.logits(longer, b.behind[1:], mode), without)
    token = b.read([b.rows[0][:1]])[0]
    wanted = b.full(b.head, b.rows[1], token.ids)
    b.agree("a chunk of one token: link-16", b.logits(b.prefix, [second, token], "link-16"), wanted)
    b.agree("no chunks: link-16", b.logits(b.prefix, [], "link-16"), b.full(b.head))
    for mode in ("independent", "ape", "full"):
        b.agree(f"the question alone: {mode}", b.logits((), [], mode), b.full())
    b.agree("chunks not cached: independent", b.logits(b.head, b.rows, "independent"), b.full(b.head, *b.rows))


def consumers(b: Bench) -> None:
    """Attention and answers behind cached states are those behind the prompt."""
    import torch

    head = Prompt((Segment((*b.head, *b.rows[0])),))
    wanted = b.model.attention(head, [Prompt((Segment(b.suffix),))], Meter())[0]
    composed = b.compose(b.prefix, b.behind[:1], "independent")
    found = attention_behind(b.model, composed, [b.suffix], Meter())[0]
    b.agree("attention to a cached beginning", torch.from_numpy(found), torch.from_numpy(wanted))
    ids = [*head.ids, *b.suffix]
    cold, scores = b.reference.greedy(ids, 12)
    warm, _ = b.reference.greedy(ids, 12, composed.states)
    gap = 0.0  # between the first two tokens that differ, by the logits of the cold run
    for c, w, row in zip(cold, warm, scores, strict=True):
        if c != w:
            gap = float((row[c] - row[w]) / row.std())
            break
    b.note("generate() of 12 tokens = from cold, or a tie", b.tolerance, gap)


def divergence_falls(b: Bench, prompts: int) -> None:
    """Mean divergence of the next token from the full prefill's over the shares that blend computes again."""
    sums = [0.0] * len(SHARES)
    for _ in range(prompts):
        rows = [b.ids(b.rng.randrange(8, 24)) for _ in range(3)]
        chunks = b.read(rows)
        wanted = b.full(b.head, *rows)[-1].log_softmax(-1)
        for i, share in enumerate(SHARES):
            found = b.logits(b.prefix, chunks, Mode(kind="blend", share=share))[-1].log_softmax(-1)
            sums[i] += float((wanted.exp() * (wanted - found)).sum())
    rise = max(later - earlier for earlier, later in pairwise(sums))
    b.note("blend: the larger the share, the less divergence", UPWARD, rise / max(sums))


CLAIMS: tuple[Callable[[Bench], None], ...] = (
    reading,
    moving,
    ends,
    parallel,
    odd,
    context,
    in_place,
    choice,
    consumers,
)


def _prefilled(b: Bench, ids: Sequence[int]) -> KeyValues:
    states = b.model.memory(1, len(ids))
    b.model.alone(Meter(), lambda: b.model.prefill(ids, states, Meter(), b.model.shape[0] - 1), len(ids))
    return states


def _moved(b: Bench, states: ChunkStates, to: int) -> States:
    """Rotated keys, and values, of a chunk that begins at a position."""
    import torch

    rope = angles(b.model, torch.arange(to, to + len(states.ids)))
    return [(rotated(k[None], rope), v[None]) for k, v in zip(states.keys, states.values, strict=True)]


def _moved_reference(b: Bench) -> torch.Tensor:
    """Logits of the suffix behind chunks that transformers reads behind the prefix, their keys turned in float64."""
    start = len(b.head)
    parts = [[(k[:, :, :start], v[:, :, :start]) for k, v in b.reference.states(b.head)]]
    at = start
    for row in b.rows:
        read = [(k[:, :, start:], v[:, :, start:]) for k, v in b.reference.states([*b.head, *row])]
        parts.append([(b.reference.turned(k, at - start), v) for k, v in read])
        at += len(row)
    return b.reference.logits_behind(parts, b.suffix)


def _linked_reference(b: Bench, k: int) -> torch.Tensor:
    """Logits of the suffix where the first tokens of chunks stand twice: in their chunks, and again among everything.

    Chunks see themselves; the second copies, at the same positions, see each other and all that is no first copy.
    """
    import torch

    lengths, start, stop = [len(row) for row in b.rows], len(b.head), len(b.prompt)
    firsts = [start + sum(lengths[:i]) for i in range(len(lengths))]
    again = [first + j for first, length in zip(firsts, lengths, strict=True) for j in range(min(k, length))]
    positions = torch.tensor([*range(stop), *again, *range(stop, stop + len(b.suffix))])
    mask = positions[None] <= positions[:, None]
    mask[:, again] = False
    mask[:stop] = False
    mask[:stop, :stop] = apart(start, lengths, 0, see_prefix=False)
    ids = [*b.prompt, *(b.prompt[at] for at in again), *b.suffix]
    return b.reference.logits(ids, mask=mask, positions=positions.tolist())[-len(b.suffix) :]


def _apart(found: ChunkStates, wanted: ChunkStates) -> float:
    return max(difference(found.keys, wanted.keys), difference(found.values, wanted.values))


def _worst(found: States, wanted: States) -> float:
    return max(difference(f[i], w[i]) for f, w in zip(found, wanted, strict=True) for i in range(2))


def _epsilon(b: Bench) -> float:
    import torch

    return torch.finfo(b.model.model.dtype).eps
