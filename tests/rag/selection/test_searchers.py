"""The contract of every searcher: feasible, deterministic, anytime, within its limits, and exact where it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, count, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.selection.constructive import beam, mmr
from rag.selection.corag import corag
from rag.selection.evaluator import Evaluator, Searcher, solve
from rag.selection.instances import instance
from rag.selection.local import neighbourhoods, polish
from rag.selection.portfolio import BASELINES, SEARCHERS
from rag.selection.problem import MIN_GAIN, Limits, Problem, Result, Selection, Utility

MMR: Searcher = partial(mmr, relevance=np.linspace(1.0, 0.1, 12), similarity=np.eye(12))
ALL_SEARCHERS = {**SEARCHERS, **BASELINES, "mmr": MMR}
EXHAUSTIVE = ("tree", "portfolio", "exact", "corag")
every_searcher = pytest.mark.parametrize("name", ALL_SEARCHERS)
every_exhaustive = pytest.mark.parametrize("name", EXHAUSTIVE)
every_kind = pytest.mark.parametrize("ordered", [False, True], ids=["sets", "sequences"])
NO_LIMIT = Limits(evaluations=None)


def run(name: str, problem: Problem, limits: Limits | None = None) -> Result:
    return solve(problem, ALL_SEARCHERS[name], limits, memoise=name != "corag")


def additive(*worth: float) -> Utility:
    return lambda batch: [sum(worth[i] for i in selection) for selection in batch]


def tabled(values: dict[Selection, float]) -> Utility:
    return lambda batch: [values[selection] for selection in batch]


def plain_cost(problem: Problem, selection: Sequence[int]) -> int:
    """Template, then each candidate, with a separator between two."""
    parts = [problem.template] * bool(selection)
    for at, i in enumerate(selection):
        parts += [problem.separator] * (at > 0) + [problem.costs[i]]
    return sum(parts)


def plain_best(problem: Problem) -> float:
    """Every selection there is, looked at one by one."""
    best = problem.empty
    for size in range(1, problem.n + 1):
        for selection in (permutations if problem.ordered else combinations)(range(problem.n), size):
            few = problem.most is None or size <= problem.most
            if few and plain_cost(problem, selection) <= problem.budget:
                best = max(best, problem.utility([selection])[0])
    return best


def affine(utility: Utility, a: float, b: float) -> Utility:
    return lambda batch: [a * value + b for value in utility(batch)]


class Recorder:
    """A utility that keeps the batches it was asked."""

    def __init__(self, utility: Utility) -> None:
        self.utility = utility
        self.batches: list[list[Selection]] = []

    def __call__(self, batch: Sequence[Selection]) -> Sequence[float]:
        self.batches.append(list(batch))
        return self.utility(batch)

    @property
    def asked(self) -> list[Selection]:
        return [selection for batch in self.batches for selection in batch]


# --- feasibility ---


@every_searcher
@every_kind
@settings(max_examples=12, deadline=None)
@given(
    costs=st.lists(st.integers(0, 9), max_size=6),
    budget=st.integers(0, 30),
    separator=st.integers(0, 3),
    template=st.integers(0, 5),
    most=st.none() | st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_asks_only_for_feasible_selections_and_returns_one(
    name: str,
    ordered: bool,
    costs: list[int],
    budget: int,
    separator: int,
    template: int,
    most: int | None,
    seed: int,
) -> None:
    worth = np.random.default_rng(seed).uniform(-1.0, 1.0, len(costs)).tolist()
    recorder = Recorder(additive(*worth))
    problem = Problem(
        costs=tuple(costs),
        budget=budget,
        utility=recorder,
        separator=separator,
        template=template,
        most=most,
        ordered=ordered,
    )
    result = run(name, problem, Limits(evaluations=80))
    for selection in [*recorder.asked, result.chosen, *(node.selection for node in result.tree)]:
        assert plain_cost(problem, selection) <= budget or not selection
        assert len(selection) == len(set(selection)) <= (len(costs) if most is None else most)
    assert all(recorder.asked), "the empty selection is never asked for"


@every_searcher
@pytest.mark.parametrize(
    ("costs", "budget"), [((), 100), ((5, 5), 0), ((5, 5), 4), ((101,), 100)], ids=["pool", "zero", "small", "one"]
)
def test_nothing_feasible_gives_nothing_without_an_evaluation(name: str, costs: tuple[int, ...], budget: int) -> None:
    result = run(name, Problem(costs=costs, budget=budget, utility=tabled({})))
    assert (result.chosen, result.value, result.evaluations, result.complete) == ((), 0.0, 0, True)


@every_searcher
def test_one_candidate_that_fits_is_taken(name: str) -> None:
    result = run(name, Problem(costs=(5,), budget=5, utility=additive(0.5)))
    assert (result.chosen, result.value, result.evaluations) == ((0,), 0.5, 1)


@every_searcher
def test_template_and_separators_count(name: str) -> None:
    """2 + 5 + 3 + 5 = 15 tokens for both: one less and only one fits."""
    problem = Problem(costs=(5, 5), budget=15, utility=additive(0.2, 0.1), template=2, separator=3)
    found = [run(name, replace(problem, budget=budget), NO_LIMIT).value for budget in (15, 14, 7, 6)]
    assert found == [pytest.approx(0.3), 0.2, 0.2, 0.0]


@every_searcher
@every_kind
def test_nothing_is_chosen_where_everything_does_harm(name: str, ordered: bool) -> None:
    harmful = Problem(costs=(1,) * 4, budget=3, utility=lambda batch: [-0.1] * len(batch), ordered=ordered)
    assert run(name, harmful).chosen == ()


@every_searcher
def test_a_duplicate_is_not_taken_twice(name: str) -> None:
    """Candidates 0 and 1 are the same text: one of them is worth 0.5, both together 0.3."""
    values = {(0,): 0.5, (1,): 0.5, (0, 1): 0.3}
    problem = Problem(costs=(1, 1), budget=2, utility=tabled(values))
    expected = {"fill": 0.3, "mmr": 0.3}  # one evaluation: what fits
    assert run(name, problem, NO_LIMIT).value == expected.get(name, 0.5)


# --- determinism, limits, anytime ---


@every_searcher
@every_kind
def test_two_runs_agree_whatever_the_batch_size(name: str, ordered: bool) -> None:
    problem = instance(3, 12, ordered=ordered)
    first, again, smaller = (run(name, problem, Limits(evaluations=150, batch=size)) for size in (64, 64, 3))
    assert first == again == smaller


@every_searcher
def test_limits_on_evaluations_and_batches_are_kept_exactly(name: str) -> None:
    problem = instance(5, 12)
    whole = run(name, problem, Limits(evaluations=300)).evaluations
    for most in (0, 1, 2, 17, 100):
        recorder = Recorder(problem.utility)
        result = run(name, replace(problem, utility=recorder), Limits(evaluations=most, batch=7))
        assert result.evaluations == len(recorder.asked) == min(most, whole)
        assert max(map(len, recorder.batches), default=0) <= 7


@every_searcher
def test_a_limit_on_tokens_stops_before_the_selection_that_would_exceed_it(name: str) -> None:
    problem = instance(5, 12)
    recorder = Recorder(problem.utility)
    result = run(name, replace(problem, utility=recorder, reads=problem.cost), Limits(evaluations=None, tokens=9000))
    assert result.tokens == sum(map(problem.cost, recorder.asked)) <= 9000
    assert result.complete or result.tokens > 9000 - problem.budget


@every_searcher
def test_a_time_limit_is_overrun_by_one_batch_at_most(name: str) -> None:
    """The clock ticks once a look: the deadline is set at 0 and looked at before each evaluation."""
    ticks = count()
    result = solve(
        instance(5, 12),
        ALL_SEARCHERS[name],
        Limits(seconds=20.5, batch=1),
        memoise=name != "corag",
        clock=lambda: float(next(ticks)),
    )
    assert result.evaluations == (1 if name in ("fill", "mmr") else 20)


@every_searcher
@every_kind
def test_more_evaluations_continue_the_same_search(name: str, ordered: bool) -> None:
    problem = instance(8, 10, ordered=ordered)
    longest = run(name, problem, Limits(evaluations=240))
    assert longest.curve[0].evaluations == 0
    assert all(a.evaluations < b.evaluations and a.value < b.value for a, b in pairwise(longest.curve))
    assert longest.curve[-1].value == longest.value
    values = []
    for most in (0, 5, 30, 31, 77, 160):
        shorter = run(name, problem, Limits(evaluations=most))
        assert shorter.curve == tuple(step for step in longest.curve if step.evaluations <= most)
        assert shorter.value == longest.at(most)
        values.append(shorter.value)
    assert values == sorted(values)


@every_kind
@pytest.mark.parametrize("seed", range(12))
def test_the_portfolio_is_never_below_greedy_at_an_equal_limit(seed: int, ordered: bool) -> None:
    problem = instance(seed, 8 + seed, ordered=ordered)
    greedy = run("greedy", problem, Limits(evaluations=300))
    found = run("portfolio", problem, Limits(evaluations=300))
    assert all(found.at(most) >= greedy.at(most) for most in range(301))


# --- exactness ---


@every_exhaustive
@every_kind
@pytest.mark.parametrize("seed", range(8))
def test_exhausted_searches_equal_the_best_of_all_selections(name: str, ordered: bool, seed: int) -> None:
    problem = instance(seed, 4 if ordered else 7, ordered=ordered)
    result = run(name, problem, NO_LIMIT)
    assert result.complete
    assert result.optimal
    assert result.value == pytest.approx(plain_best(problem), abs=2 * MIN_GAIN)


@pytest.mark.parametrize("name", ["tree", "portfolio", "exact"])
@every_kind
def test_every_feasible_state_is_valued_once(name: str, ordered: bool) -> None:
    """Of 5 equal candidates 3 fit: 5 + 10 + 10 sets, 5 + 20 + 60 sequences."""
    recorder = Recorder(additive(*[0.1] * 5))
    problem = Problem(costs=(1,) * 5, budget=3, utility=recorder, ordered=ordered)
    result = run(name, problem, NO_LIMIT)
    assert result.evaluations == len(recorder.asked) == len(set(recorder.asked)) == (85 if ordered else 25)
    assert ordered or all(selection == tuple(sorted(selection)) for selection in recorder.asked)


def test_the_published_scheme_values_permutations_anew() -> None:
    """Three candidates, all orders: 3 + 6 + 6 requests for 7 sets."""
    problem = Problem(costs=(1,) * 3, budget=3, utility=additive(0.1, 0.1, 0.1))
    assert solve(problem, corag, NO_LIMIT, memoise=False).evaluations == 15


def test_branch_and_bound_leaves_states_out_and_misses_nothing() -> None:
    problem = instance(2, 12)
    bounded, whole = (run("exact", p, NO_LIMIT) for p in (problem, replace(problem, bound=None)))
    assert bounded.chosen == whole.chosen
    assert bounded.evaluations < whole.evaluations


def test_greedy_stops_at_a_bridge_that_the_beam_crosses() -> None:
    """0 and 1 are worth less than nothing alone and 0.9 together; 2 is worth 0.3."""
    values = {(0,): -0.1, (1,): -0.1, (2,): 0.3, (0, 1): 0.9, (0, 2): 0.2, (1, 2): 0.2, (0, 1, 2): 0.8}
    problem = Problem(costs=(1,) * 3, budget=3, utility=tabled(values))
    assert run("greedy", problem).chosen == (2,)
    assert run("beam", problem).chosen == run("portfolio", problem).chosen == (0, 1)


def test_greedy_per_token_prefers_what_is_worth_its_tokens() -> None:
    """0.5 for 10 tokens is 0.05 a token, 0.3 for 4 tokens is 0.075: two of these fit into 10."""
    problem = Problem(costs=(10, 4, 4), budget=10, utility=additive(0.5, 0.3, 0.3))
    assert run("greedy", problem).chosen == (0,)
    assert run("greedy per token", problem).chosen == (1, 2)


def test_a_beam_of_one_follows_the_best() -> None:
    """Best alone is 1 with 0.3, then 2 beside it: 0.5. From the worst, 0, it would have come to 0.4."""
    problem = Problem(costs=(1,) * 3, budget=2, utility=additive(0.1, 0.3, 0.2))
    assert solve(problem, partial(beam, width=1)).chosen == (1, 2)


@every_kind
@pytest.mark.parametrize("start", [(), (0,), (3, 1), (2, 0, 1)])
def test_neighbourhoods_hold_every_feasible_selection_one_move_away(ordered: bool, start: Selection) -> None:
    """One dropped, one added (at the end), one replaced in its place, two exchanged where order counts."""
    problem = Problem(costs=(2, 3, 4, 5, 1), budget=10, utility=tabled({}), separator=1, ordered=ordered)
    here = problem.canonical(start)
    others = [i for i in range(5) if i not in here]
    moves = [tuple(i for i in here if i != out) for out in here]
    moves += [(*here, i) for i in others]
    moves += [tuple(i if j == out else j for j in here) for out in here for i in others]
    if ordered:
        moves += [tuple({a: b, b: a}.get(i, i) for i in here) for a, b in combinations(here, 2)]
    batches = list(neighbourhoods(problem, here))
    expected = {problem.canonical(move) for move in moves if plain_cost(problem, move) <= 10}
    assert {state for batch in batches for state in batch} == expected
    assert all(batches)


def test_polish_ends_where_no_move_helps() -> None:
    problem = instance(1, 10)
    evaluate = Evaluator(problem, NO_LIMIT)
    end = polish(evaluate, (0,))
    around = [state for batch in neighbourhoods(problem, end) for state in batch]
    assert max(evaluate(around)) <= evaluate([end])[0] + MIN_GAIN


def test_mmr_passes_a_copy_over() -> None:
    similarity = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    order = partial(mmr, relevance=np.array([1.0, 0.9, 0.6]), similarity=similarity, lambda_=0.5)
    problem = Problem(costs=(1,) * 3, budget=2, utility=additive(0.1, 0.1, 0.1))
    assert solve(problem, order).chosen == (0, 2)


# --- the tree ---


@pytest.mark.parametrize("most", [3, 40, 10_000])
@every_kind
def test_a_tree_node_is_worth_the_best_of_its_subtree(most: int, ordered: bool) -> None:
    problem = instance(4, 7 if not ordered else 4, ordered=ordered)
    for name in ("tree", "portfolio"):
        tree = run(name, problem, Limits(evaluations=most)).tree
        best = [node.utility for node in tree]
        for at in range(len(tree) - 1, 0, -1):
            parent = tree[at].parent
            assert 0 <= parent < at
            assert tree[at].selection[:-1] == tree[parent].selection or not ordered
            assert set(tree[parent].selection) < set(tree[at].selection)
            best[parent] = max(best[parent], best[at])
        if most == 10_000:  # a stop in the middle of an expansion leaves the last children without back-up
            assert [node.best for node in tree] == best
            assert all(node.closed for node in tree)
        assert len({node.selection for node in tree}) == len(tree)


def test_the_tree_goes_where_the_best_was_found_and_backs_the_maximum_up() -> None:
    """Of the first level 2 is best, then its child with 3; a mean over the children would have left that branch.

    Children of (2,): 0.9 with 3, -0.5 with 0 and 1, mean -0.03; 1 alone is worth 0.1. The next expanded is (2, 3).
    """

    def utility(batch: Sequence[Selection]) -> list[float]:
        table = {(0,): 0.0, (1,): 0.1, (2,): 0.2, (3,): 0.0, (2, 3): 0.9, (0, 2): -0.5, (1, 2): -0.5}
        return [table.get(selection, 0.05) for selection in batch]

    recorder = Recorder(utility)
    run("tree", Problem(costs=(1,) * 4, budget=4, utility=recorder), Limits(evaluations=9))
    assert recorder.batches[:3] == [[(0,), (1,), (2,), (3,)], [(0, 2), (1, 2), (2, 3)], [(0, 2, 3), (1, 2, 3)]]


def test_a_stop_in_an_expansion_leaves_the_valued_children_in_the_tree() -> None:
    problem = Problem(costs=(1,) * 4, budget=4, utility=additive(0.1, 0.2, 0.3, 0.4))
    result = run("tree", problem, Limits(evaluations=2))
    assert [node.selection for node in result.tree] == [(), (0,), (1,)]
    assert not any(node.closed for node in result.tree)


def test_scale_and_offset_of_the_utility_change_nothing_but_for_the_published_scheme() -> None:
    """a U + b, a and b powers of two: the published constant C = 2 has another meaning for every a."""
    changed = dict.fromkeys(("tree", "portfolio", "corag"), 0)
    for seed in range(8):
        problem = instance(seed, 12)
        other = replace(problem, utility=affine(problem.utility, 8.0, 4.0), empty=4.0, bound=None)
        for name in changed:
            changed[name] += len({run(name, p, Limits(evaluations=150)).chosen for p in (problem, other)}) - 1
    assert changed["tree"] == changed["portfolio"] == 0
    assert changed["corag"] > 0


# --- the caller's mistakes ---


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_utility_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"the utility of \(0,\) is"):
        run("greedy", Problem(costs=(1,), budget=1, utility=lambda batch: [value]))


def test_a_utility_that_answers_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="0 values for 1 selections"):
        run("greedy", Problem(costs=(1,), budget=1, utility=lambda batch: []))


@pytest.mark.parametrize("field", ["budget", "separator", "template", "most"])
def test_negative_numbers_are_refused(field: str) -> None:
    numbers = {"budget": 1, "separator": 0, "template": 0, "most": 1} | {field: -1}
    with pytest.raises(ValueError, match="-1 is negative"):
        Problem(costs=(1,), utility=tabled({}), **numbers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="-2 is negative"):
        Problem(costs=(1, -2), budget=1, utility=tabled({}))


def test_limits_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="batch = 0"):
        Limits(batch=0)
    with pytest.raises(ValueError, match="negative"):
        Limits(evaluations=-1)
