"""Chunks read where they stand in a composition: their states and contexts, taken while they are computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rag.kv.attended import Attended
from rag.kv.craft import Variant
from rag.kv.modes import Mode
from rag.kv.plan import Piece, all_exact, to_compute
from rag.kv.states import ChunkStates

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel
    from rag.runtime.keyvalues import KeyValues


class InPlace:
    """Watches ``recompute`` of a composition and keeps what it makes of some of its pieces, in the CPU's memory.

    pieces  of the composition, the prefix first;  wanted  which of them, none of which has states
    """

    def __init__(self, model: LanguageModel, mode: Mode, pieces: Sequence[Piece], wanted: Iterable[int]) -> None:
        self._model, self._mode, self._pieces, self._wanted = model, mode, pieces, list(wanted)
        self._chunks = [piece for piece in pieces[1:] if piece.passage and piece.ids]
        self._active = to_compute(mode, pieces)
        self._rows: list[slice] = []
        self._states: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
        self._sums: list[Attended] = []

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, states: KeyValues
    ) -> None:
        """A layer: rotated queries, raw keys and values of the active tokens, and the states they are among by now."""
        if layer == 0:
            self._begin()
        for at, rows, sums, (keys, values) in zip(self._wanted, self._rows, self._sums, self._states, strict=True):
            keys.append(_own(key[0, :, rows]))
            values.append(_own(value[0, :, rows]))
            sums.add(query[0, :, rows], states.keys[layer][0, :, : self._pieces[at].stop])

    def variants(self) -> list[Variant]:
        """Of the pieces wanted, in their order, when every layer has been seen."""
        import torch

        found = []
        for at, sums, (keys, values) in zip(self._wanted, self._sums, self._states, strict=True):
            piece = self._pieces[at]
            states = ChunkStates(piece.ids, torch.stack(keys), torch.stack(values), piece.start)
            context = sums.context(piece.before, piece.front, exact=self._exact(at))
            found.append(Variant(states, replace(context, through=self._through(at))))
        return found

    def _through(self, at: int) -> tuple[str, ...]:
        """What variants in front of a piece were read behind, and is not in front of it itself."""
        there = [piece.context for piece in self._pieces[:at]]
        names = dict.fromkeys(name for one in there for name in (*one.before, *one.through))
        return tuple(name for name in names if name not in self._pieces[at].before)

    def _begin(self) -> None:
        """Anew, also where memory ran out in the middle and the composition is tried again."""
        first = {place: row for row, place in enumerate(self._active)}
        wanted = [self._pieces[at] for at in self._wanted]
        self._rows = [slice(first[piece.start], first[piece.start] + len(piece.ids)) for piece in wanted]
        self._states = [([], []) for _ in wanted]
        self._sums = [
            Attended([(c.start, c.stop) for c in self._chunks if c.stop <= piece.start], (piece.start, piece.stop))
            for piece in wanted
        ]

    def _exact(self, at: int) -> bool:
        """True where all in front of a piece, and so the piece, is as in the full prefill."""
        return all_exact(self._mode, self._pieces[: at + 1], self._active, self._model.model.dtype)


def _own(states: torch.Tensor) -> torch.Tensor:
    import torch

    return states.to("cpu", copy=True, memory_format=torch.contiguous_format)
