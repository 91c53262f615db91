"""Why candidates are in a set or not: what each term says about taking one away, adding or exchanging one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rag.choice import BestSet, Branch, Choice, Weighed
from rag.selection.cost import readable
from rag.selection.problem import MIN_GAIN, Problem, Result, Selection
from rag.selection.utility import WeightedSum
from rag.values import Hit, Ranking

Known = Callable[[Selection], bool]
Parts = Mapping[Selection, Mapping[str, float]]
"""What every term adds to the utility of a set."""
LEAST = 1e-12
"""A smaller change of a term is rounding."""


def always(selection: Selection) -> bool:
    """Every set may be valued to explain another."""
    return True


def explained(
    name: str,
    problem: Problem,
    utility: WeightedSum,
    result: Result,
    ranking: Ranking,
    hits: Sequence[Hit],
    known: Known = always,
) -> Choice:
    """The result with its reasons; candidate i is hits[i], the other hits of the ranking were not weighed.

    known  which sets may be valued for it: a term that asks a model must have valued them before
    """
    here, ids = result.chosen, [hit.chunk.id for hit in hits]
    others = {i: _neighbours(problem, here, i, known) for i in range(problem.n)}
    states = list(dict.fromkeys([here, *(state for found in others.values() for _, state in found)]))
    parts = dict(zip(states, utility.parts(states), strict=True))
    chosen = [_chosen(parts, here, i, others[i], ids) for i in sorted(here)]
    rejected = [_rejected(problem, parts, here, i, others[i], ids) for i in range(problem.n) if i not in here]
    weighed = set(ids)
    rejected += [
        Weighed(hit.chunk.id, by="depth" if readable([hit]) else "empty")
        for hit in ranking
        if hit.chunk.id not in weighed
    ]
    return Choice(
        selector=name,
        utility=result.value,
        evaluations=result.evaluations,
        tokens=result.tokens,
        end="optimal" if result.optimal else "complete" if result.complete else "limit",
        bests=tuple(BestSet(s.evaluations, s.value, tuple(ids[i] for i in s.selection)) for s in result.curve),
        chosen=tuple(chosen),
        rejected=tuple(rejected),
        tree=_tree(result, ids),
    )


def by_rank(
    name: str, ranking: Ranking, hits: Sequence[Hit], taken: Sequence[int], costs: Sequence[int], budget: int
) -> Choice:
    """Of a selector that compares no sets; ``hits`` are those of the ranking with text, ``taken`` places among them."""
    size = {hit.chunk.id: cost for hit, cost in zip(hits, costs, strict=True)}
    chosen = {hits[i].chunk.id for i in taken}
    return Choice(
        selector=name,
        chosen=tuple(Weighed(hit.chunk.id, by="rank") for hit in ranking if hit.chunk.id in chosen),
        rejected=tuple(
            Weighed(hit.chunk.id, by=_no_room(size.get(hit.chunk.id), budget))
            for hit in ranking
            if hit.chunk.id not in chosen
        ),
    )


def _no_room(cost: int | None, budget: int) -> str:
    if cost is None:
        return "empty"
    return "size" if cost > budget else "budget"


def _neighbours(problem: Problem, here: Selection, i: int, known: Known) -> list[tuple[int | None, Selection]]:
    """The sets that say why i is in the set or not, each with the chosen candidate that is given up in it.

    The set without i; or with it, where there is room; or with it in place of each chosen one.
    """
    if i in here:
        found: list[tuple[int | None, Selection]] = [(i, tuple(other for other in here if other != i))]
    elif problem.feasible((*here, i)):
        found = [(None, problem.canonical((*here, i)))]
    else:
        found = [(out, problem.canonical(tuple(i if c == out else c for c in here))) for out in here]
    return [(out, state) for out, state in found if problem.feasible(state) and known(state)]


def _chosen(
    parts: Parts, here: Selection, i: int, without: Sequence[tuple[int | None, Selection]], ids: Sequence[str]
) -> Weighed:
    """What the set would lose without i."""
    if not without:
        return Weighed(ids[i])
    change = _change(parts[without[0][1]], parts[here])
    return Weighed(ids[i], sum(change.values()), _extreme(change, max), change)


def _rejected(
    problem: Problem,
    parts: Parts,
    here: Selection,
    i: int,
    others: Sequence[tuple[int | None, Selection]],
    ids: Sequence[str],
) -> Weighed:
    """What speaks against i beside the chosen, or where it has no room in place of the one best given up."""
    if not problem.feasible((i,)):
        return Weighed(ids[i], by="size")
    if not others:
        beside = problem.feasible((*here, i))
        return Weighed(ids[i], by="limit" if beside else "most" if len(here) == problem.most else "budget")
    out, state = max(others, key=lambda other: sum(parts[other[1]].values()))
    change = _change(parts[here], parts[state])
    gain = sum(change.values())
    why = "limit" if gain > MIN_GAIN else _extreme(change, min)
    return Weighed(ids[i], gain, why, change, "" if out is None else ids[out])


def _change(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What every term adds on the way from one set to another, terms that say nothing left out."""
    return {term: after[term] - before[term] for term in after if abs(after[term] - before[term]) > LEAST}


def _extreme(change: Mapping[str, float], which: Callable[..., str]) -> str:
    """The term with the largest or least change, the first of equals; "" where nothing changes."""
    return which(change, key=change.__getitem__) if change else ""


def _tree(result: Result, ids: Sequence[str]) -> tuple[Branch, ...]:
    branches = []
    for node in result.tree:
        above = set(result.tree[node.parent].selection) if node.parent >= 0 else set[int]()
        added = next((ids[i] for i in node.selection if i not in above), "")
        branches.append(Branch(node.parent, added, node.utility, node.best, node.visits, node.closed))
    return tuple(branches)
