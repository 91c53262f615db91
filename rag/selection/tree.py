"""MCTS-R: a tree search over selections with batched full expansion, a transposition table and max backup.

UCT (Kocsis & Szepesvari, ECML 2006) with what chunk sets need: values are normalised over the run, a node is worth the
best of its subtree, each state stands in the tree once, infeasible children are never made, exhausted subtrees are
closed. No random numbers: ties go to the better-ranked candidate.
"""

from __future__ import annotations

import math

from rag.selection.evaluator import Ended, Evaluator, OutOfBudget
from rag.selection.nodes import Node, drawn
from rag.selection.problem import Selection, TreeNode

EXPLORATION = 0.15
"""C of the confidence bound, for values in [0, 1]. At 2, the published value, the search is breadth first."""


class Tree:
    """A tree under search; ``expand`` until it is closed. What the evaluator knows already costs nothing."""

    def __init__(self, evaluate: Evaluator, exploration: float = EXPLORATION) -> None:
        empty = evaluate.problem.empty
        self._evaluate, self._exploration = evaluate, exploration
        self._root = Node((), empty, None, empty)
        self._seen: set[Selection] = {()}
        self._low = self._high = empty

    @property
    def closed(self) -> bool:
        """Whether every feasible state stands in the tree."""
        return self._root.closed

    def expand(self) -> None:
        """Give the most promising open leaf all its children in one batch.

        Raises OutOfBudget; the children that were valued before the stop are then in the tree.
        """
        leaf = self._root
        while leaf.children:
            leaf = self._most_promising(leaf)
        states = [child for child in self._evaluate.problem.extensions(leaf.selection) if child not in self._seen]
        self._seen.update(states)
        try:
            values = self._evaluate(states)
        except OutOfBudget:
            self._hang(leaf, [(s, value) for s in states if (value := self._evaluate.known(s)) is not None])
            raise
        self._hang(leaf, list(zip(states, values, strict=True)))
        self._back_up(leaf)

    def nodes(self) -> tuple[TreeNode, ...]:
        """The tree to draw."""
        return drawn(self._root)

    def _most_promising(self, node: Node) -> Node:
        """The open child with the largest upper confidence bound; the first of equals."""
        span = self._high - self._low or 1.0
        log = math.log(node.visits + 1)
        return max(
            node.open_children(),
            key=lambda child: (child.best - self._low) / span + self._exploration * math.sqrt(log / child.visits),
        )

    def _hang(self, leaf: Node, valued: list[tuple[Selection, float]]) -> None:
        for state, value in valued:
            leaf.children.append(Node(state, value, leaf, value))
            self._low, self._high = min(self._low, value), max(self._high, value)

    def _back_up(self, leaf: Node) -> None:
        for node in leaf.ancestry():
            node.visits += 1
            node.best = max([node.best, *(child.best for child in node.children)])
            node.closed = not node.open_children()


def tree_search(evaluate: Evaluator, exploration: float = EXPLORATION) -> Ended:
    """The tree alone, without seed and polish, until it is exhausted."""
    tree = Tree(evaluate, exploration)
    evaluate.tree = tree.nodes
    while not tree.closed:
        tree.expand()
    return Ended(optimal=True)
