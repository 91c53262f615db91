"""The default search: greedy, beam and local search seed a tree search, all on one memo and one evaluation budget."""

from __future__ import annotations

from itertools import count

from rag.selection.constructive import beam, beam_levels, climb, fill, greedy, greedy_per_token, random_sets
from rag.selection.corag import corag
from rag.selection.evaluator import Ended, Evaluator, Searcher
from rag.selection.exact import exact
from rag.selection.local import local_search, polish, shake
from rag.selection.tree import Tree, tree_search

EXPANSIONS, BEAM_TURN = 4, 3
"""Of the tree in a turn; and every which turn a beam level comes: the tree pays off sooner, the beam later."""


def portfolio(evaluate: Evaluator, width: int = 4, seed: int = 0) -> Ended:
    """Greedy, polished; then by turns expansions of the tree, a level of a beam, and a climb from a shaken best.

    Greedy comes first, so that no limit gives less than greedy has at that limit. The turns do not depend on the
    limit: more evaluations continue the same search. It ends when every feasible state stands in the tree.
    """
    polish(evaluate, climb(evaluate, per_token=False))
    levels, tree, shaken = beam_levels(evaluate, width), Tree(evaluate), shake(evaluate, seed)
    evaluate.tree = tree.nodes
    for turn in count(1):
        known = evaluate.value
        for _ in range(EXPANSIONS):
            if tree.closed:
                return Ended(optimal=True)
            tree.expand()
        if turn % BEAM_TURN == 0:
            next(levels, None)
        if evaluate.value > known:
            polish(evaluate, evaluate.best)
        polish(evaluate, next(shaken))
    raise AssertionError("a tree of finitely many states closes")


SEARCHERS: dict[str, Searcher] = {
    "fill": fill,
    "greedy": greedy,
    "greedy per token": greedy_per_token,
    "beam": beam,
    "local search": local_search,
    "tree": tree_search,
    "portfolio": portfolio,
    "exact": exact,
}
"""By name; ``portfolio`` is the default."""
BASELINES: dict[str, Searcher] = {"random": random_sets, "corag": corag}
"""Only to compare with. The published scheme, corag, values permutations anew: ``solve(..., memoise=False)``."""
