"""Prompts put together from cached chunk states: keys rotated once to their places, some tokens computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.errors import InvalidInput
from rag.kv.ahead import Place, ahead
from rag.kv.ape import correction, shared_positions, shift
from rag.kv.blend import Deviants
from rag.kv.capture import read_chunks
from rag.kv.craft import Variant
from rag.kv.modes import Mode
from rag.kv.plan import Chunk, Ids, Piece, all_exact, ids_of, pieces_of, reusable, rounding, to_compute
from rag.kv.recompute import Watch, recompute
from rag.kv.rope import angles, check_supported, rotate_in_place
from rag.kv.states import ChunkStates
from rag.runtime.keyvalues import KeyValues
from rag.runtime.meter import Meter

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """The states of a prefix and chunks, behind which suffixes are read and answers written.

    states      one sequence with room behind it; whoever keeps tokens there has it for itself
    positions   (tokens,) the position of each token;  spans  (chunks,) places of each chunk, half open
    recomputed  share of the token states, over tokens and layers, that the model computed for this
    hit_tokens  tokens whose states come from a cache, in some layer at least
    exact       true where the states are those of a full prefill, by construction; never where some that are used were
                rounded to be stored
    rounded     the schemes that rounded what was taken from a cache, as int8; "" where none did
    """

    states: KeyValues
    ids: Ids
    positions: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    mode: Mode
    recomputed: float
    hit_tokens: int
    exact: bool
    rounded: str = ""


def compose(
    model: LanguageModel,
    prefix: ChunkStates | Sequence[int],
    chunks: Sequence[Chunk],
    mode: Mode,
    meter: Meter,
    *,
    room: int,
    layers: int | None = None,
    watch: Watch | None = None,
) -> Composed:
    """The states of the prefix and the chunks in order, put together in a mode.

    prefix  its token ids, or its states, read behind nothing; a longer beginning that is known may stand here too
    chunks  states that were read behind the beginning of this prefix, or by themselves, or token ids to compute here
    room    tokens that will be read or written behind;  layers  how many are wanted, from the first; None for all
    watch   is told what is computed in place, in a mode that computes part of the tokens
    Raises ModelNotAvailable for a model whose states cannot be moved, InvalidInput for a prompt that is too long,
    ModelOutOfMemory, OutOfBudget, Cancelled.
    """
    check_supported(model)
    fresh = 0
    if mode.parallel:
        prefix, chunks, fresh = _all_read(model, prefix, chunks, meter)
    pieces = pieces_of(prefix, chunks)
    ids = tuple(token for piece in pieces for token in piece.ids)
    positions = positions_of(mode, pieces)
    model.check(max(positions, default=-1) + 1 + room)
    depth = model.shape[0] if layers is None else layers
    if not 1 <= depth <= model.shape[0]:
        raise InvalidInput(f"layers = {depth}: the model has {model.shape[0]}")

    def run() -> tuple[KeyValues, int, int]:
        states = model.memory(1, len(ids) + room, depth)
        return states, *_fill(model, states, mode, pieces, ids, positions, meter, watch)

    states, computed, everywhere = model.alone(meter, run, len(ids) + room)
    exact = all_exact(mode, pieces, to_compute(mode, pieces), model.model.dtype)
    return Composed(
        states,
        ids,
        tuple(positions),
        tuple((piece.start, piece.stop) for piece in pieces[1:]),
        mode,
        (computed / depth + fresh) / len(ids) if ids else 0.0,
        len(ids) - everywhere - fresh,
        exact,
        "" if exact else rounding(mode, pieces),
    )


def _all_read(
    model: LanguageModel, prefix: ChunkStates | Sequence[int], chunks: Sequence[Chunk], meter: Meter
) -> tuple[ChunkStates, list[Chunk], int]:
    """Prefix and chunks with states all, and how many tokens were read for that."""
    fresh = 0
    if not isinstance(prefix, ChunkStates):
        fresh = len(prefix)
        prefix = read_chunks(model, [prefix], meter, on="model")[0]
    missing = [ids_of(chunk) for chunk in chunks if not isinstance(chunk, ChunkStates | Variant)]
    read = dict(zip(missing, read_chunks(model, missing, meter, prefix=prefix, on="model"), strict=True))
    there: list[Chunk] = [c if isinstance(c, ChunkStates | Variant) else read[ids_of(c)] for c in chunks]
    return prefix, there, fresh + sum(map(len, missing))


def positions_of(mode: Mode, pieces: Sequence[Piece]) -> list[int]:
    """The position of every token of the prefix and the chunks."""
    if not mode.parallel:
        return list(range(pieces[-1].stop))
    start = pieces[0].stop
    return [*range(start), *shared_positions(start, [len(piece.ids) for piece in pieces[1:]])]


def _fill(
    model: LanguageModel,
    states: KeyValues,
    mode: Mode,
    pieces: Sequence[Piece],
    ids: Ids,
    positions: Sequence[int],
    meter: Meter,
    watch: Watch | None,
) -> tuple[int, int]:
    """Token states that were computed, over layers; tokens that were computed in every layer."""
    import torch

    depth = len(states.keys)
    if mode.exact:
        used = pieces[: reusable(pieces)] if mode.kind == "prefix" else []
        start = used[-1].stop if used else 0
        place = placing(model, states, used, positions[:start])
        for layer in range(depth):
            place(layer)
        states.length = start
        model.prefill(ids[start:], states, meter, depth - 1)
        return depth * (len(ids) - start), len(ids) - start
    active = to_compute(mode, pieces)
    place = placing(model, states, pieces, positions)
    narrow = None
    if mode.kind == "blend":
        cached = torch.tensor(
            [piece.states is not None for piece in pieces for _ in piece.ids], device=model.model.device
        )
        narrow = Deviants(mode, cached)
    meter.allow(len(active))
    with ahead(place, depth, cached_bytes(pieces), model.model.device) as placed:
        count, last = recompute(
            model, states, ids, torch.tensor(active, dtype=torch.long), meter, placed, narrow, watch
        )
    meter.count(-(-count // depth), passes=bool(active), held=states.bytes)
    states.length = len(ids)
    if mode.parallel:
        start = pieces[0].stop
        states.shift = shift([len(piece.ids) for piece in pieces[1:]])
        states.contexts = correction(mode, start, len(ids))
    return count, last


def cached_bytes(pieces: Sequence[Piece]) -> int:
    """Bytes of the states that are put in place."""
    return sum(piece.states.nbytes for piece in pieces if piece.states is not None)


def placing(model: LanguageModel, states: KeyValues, pieces: Sequence[Piece], positions: Sequence[int]) -> Place:
    """What puts the cached states of a layer in place: copied there, all keys rotated in one go."""
    import torch

    known = [piece for piece in pieces if piece.states is not None and piece.ids]
    stop = known[-1].stop if known else 0
    rope = angles(model, torch.tensor(positions[:stop], dtype=torch.long))

    def place(layer: int) -> None:
        for piece in known:
            assert piece.states is not None
            span = slice(piece.start, piece.stop)
            _copy(piece.states.keys[layer], states.keys[layer][0, :, span])
            _copy(piece.states.values[layer], states.values[layer][0, :, span])
        if known:
            rotate_in_place(states.keys[layer][:, :, :stop], rope)

    return place


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """To the device by way of pinned memory, which its copy engine reads without the CPU."""
    pinned = target.is_cuda and not source.is_cuda
    target.copy_(source.pin_memory() if pinned else source, non_blocking=pinned)
