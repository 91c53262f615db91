"""What a composition will do, before any state is touched: where each piece stands and which tokens are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.errors import InvalidInput
from rag.kv.craft import Between, Context, Variant, share, wanting
from rag.kv.key import fronts, token_hash
from rag.kv.modes import Mode
from rag.kv.states import ChunkStates

if TYPE_CHECKING:
    import torch

Ids = tuple[int, ...]
Chunk = ChunkStates | Variant | Between | Sequence[int]
"""What is cached of a chunk, or its token ids where nothing is; or what stands between chunks."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The prefix or a chunk at its place.

    states  what is cached of it;  exact  true where these are what the full prefill would give here
    passage true for a chunk, false for the prefix and what is Between
    before  names of the chunks in front of it;  front  ``token_hash`` of all tokens between the prefix and it
    """

    ids: Ids
    start: int
    states: ChunkStates | None
    context: Context
    before: tuple[str, ...]
    front: str
    exact: bool
    passage: bool = True

    @property
    def stop(self) -> int:
        return self.start + len(self.ids)

    @property
    def places(self) -> range:
        return range(self.start, self.stop)


def pieces_of(prefix: ChunkStates | Sequence[int], chunks: Sequence[Chunk]) -> list[Piece]:
    """The prefix, then the chunks in order. Raises InvalidInput for a prefix that was read behind something."""
    if isinstance(prefix, ChunkStates) and prefix.behind:
        raise InvalidInput(f"a prefix stands first, but its states were read behind {prefix.behind} tokens")
    ids, states = (prefix.ids, prefix) if isinstance(prefix, ChunkStates) else (tuple(prefix), None)
    found = [Piece(ids, 0, states, Context(), (), "", states is not None, passage=False)]
    before: tuple[str, ...] = ()
    for chunk, front in zip(chunks, fronts(map(ids_of, chunks)), strict=True):
        states, context = _states_of(chunk)
        ids, start = ids_of(chunk), found[-1].stop
        same = (context.before, context.front) == (before, front)
        exact = states is not None and states.behind == start and same and context.exact
        passage = not isinstance(chunk, Between)
        found.append(Piece(ids, start, states, context, before, front, exact, passage))
        before = (*before, token_hash(ids)) if ids and passage else before
    return found


def ids_of(chunk: Chunk) -> Ids:
    """The token ids of a chunk, whatever there is of it."""
    if isinstance(chunk, Variant):
        return chunk.states.ids
    return chunk.ids if isinstance(chunk, ChunkStates | Between) else tuple(chunk)


def _states_of(chunk: Chunk) -> tuple[ChunkStates | None, Context]:
    if isinstance(chunk, Variant):
        return chunk.states, chunk.context
    return (chunk, Context()) if isinstance(chunk, ChunkStates) else (None, Context())


def reusable(pieces: Sequence[Piece]) -> int:
    """How many leading pieces are exact."""
    return next((i for i, piece in enumerate(pieces) if piece.ids and not piece.exact), len(pieces))


def to_compute(mode: Mode, pieces: Sequence[Piece]) -> list[int]:
    """Places of the tokens to compute from the first layer on, ascending.

    A piece without states is computed whole, an exact one never; of the others, what the mode says.
    """
    found: list[int] = []
    for piece in pieces:
        if piece.states is None:
            found += piece.places
        elif not piece.exact:
            found += _of(mode, piece)
    return found


def _of(mode: Mode, piece: Piece) -> Sequence[int]:
    if mode.kind == "craft":
        return [piece.start + i for i in wanting(piece.context, len(piece.ids), _fix(mode, piece))]
    return _share(mode, piece.places)


def _fix(mode: Mode, piece: Piece) -> float:
    """The share that craft computes again of a piece with states: all its context has changed with another prefix."""
    if piece.before == piece.context.before and piece.states is not None and piece.states.behind != piece.start:
        return min(1.0, mode.alpha * piece.context.cci)
    return share(piece.context, piece.before, piece.front, mode.alpha)


def _share(mode: Mode, places: range) -> range:
    """The tokens of a passage that a mode computes again wherever it was read."""
    match mode.kind:
        case "independent" | "ape":
            return range(0)
        case "link":
            return places[: mode.k]
        case "blend":
            return places if mode.share else range(0)
    return places


def again(mode: Mode, length: int) -> int:
    """Tokens of a passage that was read by itself which a mode computes again elsewhere, from the first layer on."""
    alone = min(1.0, mode.alpha * Context().cci)
    return len(wanting(Context(), length, alone)) if mode.kind == "craft" else len(_share(mode, range(length)))


def all_exact(mode: Mode, pieces: Sequence[Piece], computed: Sequence[int], dtype: torch.dtype) -> bool:
    """True where the composed states are those of the full prefill, to the precision of the model's dtype.

    States that storage has rounded, or that are of another dtype, are only allowed where they are computed again.
    """
    if mode.kind == "full":
        return True
    if mode.parallel:
        chunks = [piece for piece in pieces[1:] if piece.ids]
        plain = (mode.temperature, mode.scale) == (1.0, 1.0)
        sound = all(_sound(piece, dtype) for piece in pieces if piece.ids)
        return sound and (not chunks or (plain and len(chunks) == 1 and chunks[0].exact))
    if mode.kind == "blend" and mode.share < 1:
        computed = [place for piece in pieces if piece.states is None for place in piece.places]
    known = {place for piece in pieces if piece.exact and _sound(piece, dtype) for place in piece.places}
    return known.union(computed) >= set(range(pieces[-1].stop))


def _sound(piece: Piece, dtype: torch.dtype) -> bool:
    """True for states as the model computed them, and for a piece without any."""
    return piece.states is None or (piece.states.keys.dtype == dtype and not piece.states.rounded)


def rounding(mode: Mode, pieces: Sequence[Piece]) -> str:
    """How storage has rounded what a mode takes from it: the schemes' names, "" where it has not."""
    taken = () if mode.kind == "full" else pieces[: reusable(pieces)] if mode.kind == "prefix" else pieces
    return "+".join(sorted({piece.states.rounded for piece in taken if piece.states and piece.states.rounded}))
