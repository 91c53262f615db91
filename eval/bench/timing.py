"""Two things timed in turns, so that what else the machine does hits both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(
    ours: Callable[[Item], object], bare: Callable[[Item], object], items: Sequence[Item], repeats: int, warm: int = 1
) -> tuple[float, float]:
    """Median seconds an item of ``ours`` and ``bare``, over all items and repeats.

    Every item goes to both, one right after the other; who goes first changes with every item and repeat, because
    the second finds warm caches. ``warm`` rounds before the first are not counted.
    """
    mine: list[float] = []
    theirs: list[float] = []
    for repeat in range(-warm, repeats):
        for number, item in enumerate(items):
            if (repeat + number) % 2:
                first, second = seconds(lambda it=item: ours(it)), seconds(lambda it=item: bare(it))  # type: ignore[misc]
            else:
                second, first = seconds(lambda it=item: bare(it)), seconds(lambda it=item: ours(it))  # type: ignore[misc]
            if repeat >= 0:
                mine.append(first)
                theirs.append(second)
    return statistics.median(mine), statistics.median(theirs)
