"""Prompts as token segments: what was written by whom, so that each part can be found, cut and shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Whose text a segment is."""

    TEMPLATE = "template"
    QUERY = "query"
    PASSAGE = "passage"


@dataclass(frozen=True, slots=True)
class Segment:
    """Token ids of one part of a prompt."""

    ids: tuple[int, ...]
    role: Role = Role.TEMPLATE


@dataclass(frozen=True, slots=True)
class Prompt:
    """Segments in order.

    shared  how many leading segments other prompts may begin with too: their key/value states are kept for those
    """

    segments: tuple[Segment, ...]
    shared: int = 0

    @property
    def ids(self) -> tuple[int, ...]:
        return joined(self.segments)

    @property
    def tail(self) -> tuple[int, ...]:
        """The ids behind the shared segments."""
        return joined(self.segments[self.shared :])


def joined(segments: Sequence[Segment]) -> tuple[int, ...]:
    return tuple(token for segment in segments for token in segment.ids)
