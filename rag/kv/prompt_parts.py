"""Prompts cut where passages begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag.runtime.prompt import Role, Segment, joined

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A prompt in parts: what stands before the first passage, passages and what is between, what stands behind.

    pieces  ids, and whether they are a passage's;  none of them is empty
    """

    head: Ids
    pieces: tuple[tuple[Ids, bool], ...]
    tail: Ids

    @property
    def passages(self) -> list[Ids]:
        return [ids for ids, passage in self.pieces if passage]


def layout_of(segments: Sequence[Segment], *, tail: bool) -> Layout:
    """With ``tail`` what stands behind the last passage is by itself, without it is a piece."""
    places = [i for i, segment in enumerate(segments) if segment.role is Role.PASSAGE and segment.ids]
    if not places:
        return Layout(joined(segments), (), ())
    first, last = places[0], places[-1] + 1 if tail else len(segments)
    pieces: list[tuple[Ids, bool]] = []
    for segment in segments[first:last]:
        passage = segment.role is Role.PASSAGE
        if not segment.ids:
            continue
        if not passage and not pieces[-1][1]:
            pieces[-1] = (pieces[-1][0] + segment.ids, False)
        else:
            pieces.append((segment.ids, passage))
    return Layout(joined(segments[:first]), tuple(pieces), joined(segments[last:]))
