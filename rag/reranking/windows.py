"""Lists longer than a prompt: windows that share some documents, and one scale for all their scores.

Windows of the published ICR code give scores that cannot be compared: a document's attention depends on who stands
beside it. Here the windows share anchor documents, and each window's scores are mapped by the affine function that
brings its anchors closest to their mean. If each window's scores are some rising affine function of one relevance,
the result is that relevance (up to one such function), so the order is that of a single unlimited prompt. For scores
that are not, it is the least-squares approximation. In any case one score a document comes out, and the order is by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ANCHORS = 4
"""Documents that stand in every window."""


def plan(costs: Sequence[int], room: int, *, anchors: int = ANCHORS) -> list[tuple[int, ...]]:
    """Windows over documents 0..n-1 (ascending within each), every document in at least one.

    costs  tokens of each document;  room  tokens a window may hold
    One window where all fit. Else ``anchors`` documents, spread evenly over the list, stand in every window (fewer
    where they take more than half the room) and the others fill the windows in their order: whoever stops early has
    read the best. Without room for an anchor, windows share nothing. A document that alone exceeds the room is left
    out; the caller cuts documents first.
    """
    fitting = [i for i in range(len(costs)) if costs[i] <= room]
    if not fitting:
        return []
    if sum(costs[i] for i in fitting) <= room:
        return [tuple(fitting)]
    shared = _spread(fitting, anchors)
    while len(shared) > 1 and sum(costs[i] for i in shared) > room // 2:
        shared = _spread(fitting, len(shared) - 1)
    rest = [i for i in fitting if i not in shared]
    left = room - sum(costs[i] for i in shared)
    if any(costs[i] > left for i in rest):
        shared, rest, left = [], fitting, room
    windows: list[list[int]] = [[]]
    for doc in rest:
        if sum(costs[i] for i in windows[-1]) + costs[doc] > left:
            windows.append([])
        windows[-1].append(doc)
    return [tuple(sorted([*shared, *window])) for window in windows]


def _spread(items: Sequence[int], count: int) -> list[int]:
    places = np.linspace(0, len(items) - 1, num=max(1, min(count, len(items))))
    return [items[round(place)] for place in places]


def link(windows: Sequence[Sequence[int]], scores: Sequence[Sequence[float]]) -> dict[int, float]:
    """One score a document, on the scale of the anchors' mean scores.

    scores  of each window, in the order of its documents
    A window whose anchors all have one score, or fewer than two, or would turn the order round, is only shifted.
    Windows without a common document are on one scale only if their scores are to begin with.
    """
    if not windows:
        return {}
    shared = sorted(set(windows[0]).intersection(*windows[1:])) if len(windows) > 1 else []
    tables = [dict(zip(window, given, strict=True)) for window, given in zip(windows, scores, strict=True)]
    if not shared:
        return {doc: score for table in tables for doc, score in table.items()}
    at_anchors = np.array([[table[doc] for doc in shared] for table in tables])
    target = at_anchors.mean(axis=0)
    total: dict[int, list[float]] = {}
    for table, own in zip(tables, at_anchors, strict=True):
        slope = _slope(own, target)
        offset = target.mean() - slope * own.mean()
        for doc, score in table.items():
            total.setdefault(doc, []).append(float(slope * score + offset))
    return {doc: float(np.mean(values)) for doc, values in sorted(total.items())}


def _slope(own: np.ndarray, target: np.ndarray) -> float:
    spread = own - own.mean()
    power = float(spread @ spread)
    slope = float(spread @ (target - target.mean())) / power if power > 0 else 1.0
    return slope if slope > 0 else 1.0
