"""The choice of a chunk set under a token budget, stated once: what every searcher is given and what it returns.

Candidates are the integers 0 ... n-1 in rank order. Wanted is the feasible selection with the largest utility, which
is neither additive nor monotone: a chunk can be worth something only beside another, and can do harm. Nothing need be
selected, and the budget need not be used up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Selection = tuple[int, ...]
"""Candidates in prompt order where order counts, ascending where it does not."""
Utility = Callable[[Sequence[Selection]], Sequence[float]]
"""A number for each selection of a batch, none of them empty.

Normalised: benefits are at most 1, penalties at most 1, so that it lies in [-1, 1] and nothing at all is worth 0.
Below 0 a selection is worse than none.
"""
MIN_GAIN = 1e-6
"""What counts as better: less than this is rounding."""


def reads_nothing(selection: Selection) -> int:
    """Tokens a model reads for a utility without a model."""
    return 0


def prompt_tokens(selection: Selection, costs: Sequence[int], separator: int = 0, template: int = 0) -> int:
    """Tokens of the template, the candidates and the separators between them; 0 for nothing."""
    if not selection:
        return 0
    return template + sum(costs[i] for i in selection) + separator * (len(selection) - 1)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Maximise ``utility`` over selections whose cost is within ``budget``.

    costs      tokens of each candidate;  separator  tokens between two of them;  template  tokens around any of them
    most       largest number of candidates in a selection, None for no limit but the budget
    ordered    whether the utility depends on the order; if not, a set is one state however it was reached
    empty      what the empty selection is worth
    reads      tokens that a model must compute to value a selection
    bound      ``bound(chosen, others)``: no selection between ``chosen`` and ``chosen`` with all ``others`` is worth
               more; with it an exact search can cut branches
    """

    costs: tuple[int, ...]
    budget: int
    utility: Utility
    separator: int = 0
    template: int = 0
    most: int | None = None
    ordered: bool = False
    empty: float = 0.0
    reads: Callable[[Selection], int] = reads_nothing
    bound: Callable[[Selection, Sequence[int]], float] | None = None

    def __post_init__(self) -> None:
        least = min((*self.costs, self.separator, self.template, self.budget, self.most or 0))
        if least < 0:
            raise ValueError(f"{least} is negative; costs, budget and limits are 0 or more")

    @property
    def n(self) -> int:
        return len(self.costs)

    def cost(self, selection: Selection) -> int:
        """Tokens in the prompt, see ``prompt_tokens``."""
        return prompt_tokens(selection, self.costs, self.separator, self.template)

    def feasible(self, selection: Selection) -> bool:
        """Whether it is within the budget and the number allowed, and holds no candidate twice."""
        few = self.most is None or len(selection) <= self.most
        return few and len(set(selection)) == len(selection) and self.cost(selection) <= self.budget

    def canonical(self, selection: Selection) -> Selection:
        """The state that a selection is: itself where order counts, ascending where it does not."""
        return selection if self.ordered else tuple(sorted(selection))

    def extensions(self, selection: Selection) -> list[Selection]:
        """Every feasible selection with one more candidate at the end, by candidate; the states of the children."""
        chosen = set(selection)
        longer = [(*selection, i) for i in range(self.n) if i not in chosen]
        return [self.canonical(child) for child in longer if self.feasible(child)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a search stops; None is no limit.

    evaluations  distinct states valued;  tokens  that a model read for them
    seconds      looked at before every batch: a search is late by one batch at most
    batch        most selections in one call of the utility
    """

    evaluations: int | None = 400
    seconds: float | None = None
    tokens: int | None = None
    batch: int = 64

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch = {self.batch}; a batch holds at least 1 selection")
        if min(self.evaluations or 0, self.seconds or 0, self.tokens or 0) < 0:
            raise ValueError(f"{self} has a negative limit; the least is 0")


@dataclass(frozen=True, slots=True)
class Step:
    """A point of the best-so-far curve: from this evaluation on the best selection known is worth ``value``."""

    evaluations: int
    value: float
    selection: Selection = ()


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node of a search tree as it can be drawn.

    utility  of this selection;  best  the largest in its subtree;  visits  times the search came through
    parent   place of the parent in the tree, -1 for the root;  closed  whether nothing is left below it
    """

    selection: Selection
    utility: float
    best: float
    visits: int
    parent: int
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The best selection a searcher valued, and what that took.

    evaluations  distinct states valued;  tokens  that a model read for them
    curve        best value so far, from the empty selection at 0 evaluations on; a step for each improvement
    complete     whether the searcher came to its own end before a limit
    optimal      whether every feasible state is accounted for, so that nothing is better by more than MIN_GAIN
    tree         nodes with parents first, empty from a searcher that grows none
    """

    chosen: Selection
    value: float
    evaluations: int
    tokens: int
    curve: tuple[Step, ...]
    complete: bool
    optimal: bool
    tree: tuple[TreeNode, ...] = ()

    def at(self, evaluations: int) -> float:
        """The best value known after that many evaluations."""
        return max(step.value for step in self.curve if step.evaluations <= evaluations)
