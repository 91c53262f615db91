"""Prompts in mode craft: each passage as the variant with least to compute again, or read where it stands and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag.kv.compose import Composed, compose
from rag.kv.craft import Between, Context, choose, share
from rag.kv.in_place import InPlace
from rag.kv.key import fronts, token_hash
from rag.kv.library import ChunkLibrary
from rag.kv.modes import Mode
from rag.kv.plan import Chunk, Ids, pieces_of
from rag.kv.slots import VariantSlots
from rag.runtime.meter import Meter

Pieces = Sequence[tuple[Ids, bool]]
"""Token ids behind the library's lead, and whether they are a passage's; none is empty."""


@dataclass(frozen=True, slots=True)
class _Selected:
    """Places of pieces by where their states come from: slots, this prompt, or the reading of a passage by itself."""

    slots: dict[int, tuple[Ids, int, Context]]
    here: list[int]
    alone: list[int]


class Crafting:
    """Puts prompts behind a library's lead together from variants, and makes the variants.

    A passage is taken from the slot whose context leaves the least to compute again behind the passages that stand
    before it (``craft.share``), the first of equals, where that is less than alpha / 2: what a passage needs that was
    read by itself. Where no slot gives so much and one is free, the passage is read where it stands, in this
    composition, and kept in that slot with what it was read behind; where none is free it is taken as it was read by
    itself. So a passage is read in place at most once a slot, until the store evicts or forgets a variant; what is used
    least leaves first there. The first passage stands as it was read by itself.

    What comes first decides what is kept: answers depend on the prompts before. The first answer of a list whose
    passages were all read in place is the model's own, and so is a second, to the rounding of the storage scheme.
    What calibration measures of craft is without variants.
    """

    def __init__(self, library: ChunkLibrary, slots: VariantSlots, mode: Mode) -> None:
        self._library, self._slots, self._mode = library, slots, mode

    def compose(self, pieces: Pieces, meter: Meter, *, room: int, layers: int | None = None) -> tuple[Composed, int]:
        """The states of the lead and the pieces, and of how many tokens states were there; as ``compose.compose``.

        What threads would read in place for the same tokens at once is read by one of them.
        """
        selected = self._select(pieces, meter)
        if not selected.here:
            return self._composed(pieces, selected, meter, room, layers)
        made: list[tuple[Composed, int]] = []

        def make(_: list[str]) -> list[None]:
            made.append(self._composed(pieces, self._select(pieces, meter), meter, room, layers))
            return [None]

        name = token_hash([token for ids, _ in pieces for token in ids])
        self._slots.flights.do_many([name], make, meter.allow)
        return made[0] if made else self._composed(pieces, self._select(pieces, meter), meter, room, layers)

    def in_place(self, passages: Sequence[Ids]) -> list[int]:
        """Of each passage its tokens where a slot has no states, so that it may be read in place; else 0.

        An entry alone is no variant: stores that drop what is large keep it longer.
        """
        known, cache = self._slots.contexts(passages), self._slots.cache
        there = {ids: sum(cache.contains(ids, f"c{slot}") for slot in slots) for ids, slots in known.items()}
        return [len(ids) if there[ids] < self._slots.count else 0 for ids in passages]

    def _select(self, pieces: Pieces, meter: Meter) -> _Selected:
        """Where each passage's states are to come from, by the entries alone."""
        alpha = self._mode.alpha
        found = _Selected({}, [], [])
        before: list[str] = []
        with self._library.noticing(meter):
            known = self._slots.contexts(ids for ids, passage in pieces if passage)
        for at, ((ids, passage), front) in enumerate(zip(pieces, fronts(ids for ids, _ in pieces), strict=True)):
            if not passage:
                continue
            slots, contexts = list(known[ids]), list(known[ids].values())
            best = choose(contexts, before, front, alpha) if contexts else -1
            if not front:
                found.alone.append(at)
            elif contexts and share(contexts[best], before, front, alpha) < share(Context(), before, front, alpha):
                found.slots[at] = (ids, slots[best], contexts[best])
            else:
                (found.here if len(slots) < self._slots.count else found.alone).append(at)
            before.append(token_hash(ids))
        return found

    def _composed(
        self, pieces: Pieces, selected: _Selected, meter: Meter, room: int, layers: int | None
    ) -> tuple[Composed, int]:
        library, mode, mark = self._library, self._mode, self._slots.cache.mark()
        head, there = library.beginning(library.lead, meter)
        chunks, here, reused = self._filled(pieces, selected, meter)
        watch = InPlace(library.model, mode, pieces_of(head, chunks), [at + 1 for at in here]) if here else None
        depth = None if here else layers  # what is kept has all layers
        composed = compose(library.model, head, chunks, mode, meter, room=room, layers=depth, watch=watch)
        if watch is not None:
            with library.noticing(meter):
                for variant in watch.variants():
                    self._slots.keep(variant, cost=library.cost * len(variant.states.ids), since=mark)
        return composed, reused + (len(head.ids) if there else 0)

    def _filled(self, pieces: Pieces, selected: _Selected, meter: Meter) -> tuple[list[Chunk], list[int], int]:
        """What is composed, which of it is read in place, and of how many passages' tokens states were there."""
        with self._library.noticing(meter):
            loaded = dict(zip(selected.slots, self._slots.load(list(selected.slots.values())), strict=True))
        found = self._library.find([pieces[at][0] for at in selected.alone], meter)
        chunks: list[Chunk] = [ids if passage else Between(ids) for ids, passage in pieces]
        here, reused = list(selected.here), 0
        for at, variant in loaded.items():
            if variant is None:
                here.append(at)
                continue
            chunks[at] = variant
            reused += len(variant.states.ids)
        for at in selected.alone:
            ids = pieces[at][0]
            chunks[at] = found.states[ids]
            reused += 0 if ids in found.read else len(ids)
        return chunks, sorted(here), reused
