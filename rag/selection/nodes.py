"""A node of a growing search tree, and the frozen tree that is drawn of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rag.selection.problem import Selection, TreeNode


@dataclass(slots=True, eq=False)
class Node:
    """best  what the search goes by: a maximum or a sum over the subtree;  closed  nothing is left below."""

    selection: Selection
    utility: float
    parent: Node | None
    best: float
    visits: int = 1
    closed: bool = False
    children: list[Node] = field(default_factory=list)

    def ancestry(self) -> Iterator[Node]:
        """The node, its parent, and so on to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def open_children(self) -> list[Node]:
        return [child for child in self.children if not child.closed]


def drawn(root: Node, best: Callable[[Node], float] = lambda node: node.best) -> tuple[TreeNode, ...]:
    """The tree level by level, parents first, children by the rank of the candidate they add."""
    order, places = [root], {id(root): 0}
    for node in order:
        for child in node.children:
            places[id(child)] = len(order)
            order.append(child)
    return tuple(
        TreeNode(
            node.selection,
            node.utility,
            best(node),
            node.visits,
            -1 if node.parent is None else places[id(node.parent)],
            node.closed,
        )
        for node in order
    )
