"""What an engine's prefix cache is likely to hold: a bounded mirror of the prompts it was sent.

RAGCache (arXiv 2404.12457) keeps states in a tree of document sequences, and CacheWeaver (arXiv 2606.19667) orders
documents by a walk of such a tree. Here the walk is the best one, not a greedy one: trees of one prompt's passages are
small.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from threading import Lock

CAPACITY = 4096
"""Passages in the tree, each counted at every place it has; the least recently used leave first, the last of a prompt
before those in front of it."""


@dataclass(slots=True, eq=False)
class _Node:
    parent: _Node | None = None
    item: Hashable = None
    children: dict[Hashable, _Node] = field(default_factory=dict)


class PrefixTree:
    """Sequences by their beginnings. Threads may share it.

    Every node is used whenever one below it is, so the least recently used node has none below it.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity, self._lock = capacity, Lock()
        self._root = _Node()
        self._used: OrderedDict[int, _Node] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def add(self, items: Sequence[Hashable]) -> None:
        """A prompt with these passages was sent; where it is longer than the capacity only its beginning counts."""
        with self._lock:
            path = [self._root]
            for item in items[: self._capacity]:
                path.append(path[-1].children.setdefault(item, _Node(path[-1], item)))
            for node in reversed(path[1:]):  # the deepest first, so that what is above is younger
                self._used[id(node)] = node
                self._used.move_to_end(id(node))
            while len(self._used) > self._capacity:
                _, node = self._used.popitem(last=False)
                assert node.parent is not None
                assert not node.children
                del node.parent.children[node.item]

    def longest(self, items: Sequence[Hashable]) -> int:
        """How many of the first items stand so at the beginning of a prompt that was sent."""
        with self._lock:
            node, count = self._root, 0
            for item in items:
                if item not in node.children:
                    break
                node, count = node.children[item], count + 1
            return count

    def best(self, items: Sequence[Hashable], weights: Sequence[float]) -> list[int]:
        """An order of the items, as indices, whose known beginning weighs most; the others follow as they were.

        weights  one an item, above 0. Of equals the beginning that comes first in the given order. Equal items are
        taken in their order. O(nodes that are made of the items alone).
        """
        with self._lock:
            found = _heaviest(self._root, list(enumerate(items)), weights)[1]
        return [*found, *(i for i in range(len(items)) if i not in set(found))]


def _heaviest(node: _Node, left: list[tuple[int, Hashable]], weights: Sequence[float]) -> tuple[float, list[int]]:
    """The heaviest way down from a node over items that are left, and its weight."""
    best: tuple[float, list[int]] = (0.0, [])
    tried = set()
    for at, (index, item) in enumerate(left):
        below = node.children.get(item)
        if below is None or item in tried:
            continue
        tried.add(item)
        weight, way = _heaviest(below, left[:at] + left[at + 1 :], weights)
        if weights[index] + weight > best[0]:
            best = (weights[index] + weight, [index, *way])
    return best
