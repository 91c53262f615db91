"""The tree search of CORAG / CARROT as its released code has it: a baseline for comparison, not for use.

Wang et al., ICDE 2026 (arXiv 2411.00744). Kept as they are: rewards without a scale against C = 2, mean backup of
every child, and every permutation valued anew. Not kept: selections above the budget, which that code allows where no
tokenizer is set, and visits to nodes without children, at which it would stay for good.
"""

from __future__ import annotations

import math

from rag.selection.evaluator import Ended, Evaluator
from rag.selection.nodes import Node, drawn
from rag.selection.problem import Problem


def corag(evaluate: Evaluator, exploration: float = 2.0, lambda_: float = 0.1) -> Ended:
    """Expand the leaf with the largest V/N + C sqrt(ln N(parent) / N) - lambda cost/B until no leaf is left.

    The best over all nodes is the result, as in that code. Run it by ``solve(..., memoise=False)``.
    """
    problem = evaluate.problem
    root = Node((), problem.empty, None, 0.0, 0)
    evaluate.tree = lambda: drawn(root, _mean)
    while not root.closed:
        leaf = root
        while leaf.children:
            leaf = _chosen(problem, leaf, exploration, lambda_)
        longer = [(*leaf.selection, i) for i in range(problem.n)]
        sequences = [sequence for sequence in longer if problem.feasible(sequence)]
        rewards = evaluate(sequences)
        leaf.children += [Node(s, reward, leaf, reward) for s, reward in zip(sequences, rewards, strict=True)]
        for node in leaf.ancestry():
            node.best += sum(rewards)
            node.visits += len(rewards)
            node.closed = not node.open_children()
    return Ended(optimal=True)


def _chosen(problem: Problem, node: Node, exploration: float, lambda_: float) -> Node:
    log = math.log(max(1, node.visits))
    return max(
        node.open_children(),
        key=lambda child: (
            _mean(child)
            + exploration * math.sqrt(log / child.visits)
            - lambda_ * problem.cost(child.selection) / max(1, problem.budget)
        ),
    )


def _mean(node: Node) -> float:
    """Mean reward of the subtree: ``best`` holds the sum here."""
    return node.best / max(1, node.visits)
