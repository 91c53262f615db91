"""Which systems no other one beats in both cost and quality. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """A system's place: less cost is better, more quality is better."""

    name: str
    cost: float
    quality: float


def front(points: Sequence[Point]) -> list[Point]:
    """The points that none dominates, by rising cost, then name.

    One point dominates another where it is at least as good in both and better in one; equal points both stay.
    """
    best = float("-inf")
    chosen: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.quality, point.name)):
        if point.quality > best:
            best = point.quality
            chosen.append(point)
        elif chosen and (point.cost, point.quality) == (chosen[-1].cost, chosen[-1].quality):
            chosen.append(point)
    return chosen
