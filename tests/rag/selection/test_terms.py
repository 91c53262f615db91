"""Each term of the utility against a plain twin, by hand, within [0, 1], and inside its bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import InvalidConfig
from rag.selection.problem import Selection, prompt_tokens
from rag.selection.terms import (
    Array,
    Average,
    Bridges,
    Coverage,
    Disorder,
    Gathered,
    Redundancy,
    Term,
    TokenCost,
    most_gathered,
)
from rag.selection.utility import WeightedSum, Weights

N = 5
SUBSETS = [subset for size in range(N + 1) for subset in combinations(range(N), size)]
Plain = Callable[[Selection], float]


def table(seed: int, *shape: int) -> Array:
    """Numbers in [0, 1], a third of them 0 and some 1."""
    draw = np.random.default_rng([seed, *shape])
    return np.asarray((draw.random(shape) * 1.5 - 0.4).clip(0.0, 1.0))


def symmetric(seed: int) -> Array:
    half = table(seed, N, N)
    return np.asarray(np.maximum(half, half.T))


def pairs(selection: Selection) -> list[tuple[int, int]]:
    return [(selection[a], selection[b]) for b in range(len(selection)) for a in range(b)]


def coverage(seed: int) -> tuple[Term, Plain]:
    weights, matches = table(seed, 3), table(seed, 3, N)

    def plain(selection: Selection) -> float:
        covered = [1.0 - prod(1.0 - matches[a, i] for i in selection) for a in range(3)]
        shares = [w * c for w, c in zip(weights.tolist(), covered, strict=True)]
        return float(sum(shares) / (sum(weights.tolist()) or 1.0))

    return Coverage(weights, matches), plain


def average(seed: int) -> tuple[Term, Plain]:
    values = table(seed, N)
    return Average(values), lambda s: sum(values[i] for i in s) / len(s) if s else 0.0


def gathered(seed: int) -> tuple[Term, Plain]:
    values = table(seed, N)
    return Gathered(values, 1.5), lambda s: min(1.0, sum(values[i] for i in s) / 1.5)


def redundancy(seed: int) -> tuple[Term, Plain]:
    similarity = symmetric(seed)

    def plain(selection: Selection) -> float:
        excess = [(similarity[i, j] - 0.4) / 0.6 for i, j in pairs(selection) if similarity[i, j] > 0.4]
        return min(1.0, sum(excess) / len(selection)) if selection else 0.0

    return Redundancy(similarity, 0.4), plain


def bridges(seed: int) -> tuple[Term, Plain]:
    strength = symmetric(seed)
    return Bridges(strength), lambda s: 1.0 - prod(1.0 - strength[i, j] for i, j in pairs(s))


def tokens(seed: int) -> tuple[Term, Plain]:
    costs = [int(100 * cost) for cost in table(seed, N)]
    cost = partial(prompt_tokens, costs=costs, separator=3, template=7)

    def plain(selection: Selection) -> float:
        glue = 7 + 3 * (len(selection) - 1) if selection else 0
        return min(1.0, (sum(costs[i] for i in selection) + glue) / 250)

    return TokenCost(cost, 250), plain


def disorder(seed: int) -> tuple[Term, Plain]:
    position = np.random.default_rng(seed).permutation(N).astype(np.float64)

    def plain(selection: Selection) -> float:
        wrong = [position[i] > position[j] for i, j in pairs(selection)]
        return sum(map(bool, wrong)) / len(wrong) if wrong else 0.0

    return Disorder(position), plain


TERMS = (coverage, average, gathered, redundancy, bridges, tokens, disorder)
every_term = pytest.mark.parametrize("make", TERMS, ids=lambda make: make.__name__)


@every_term
@given(
    seed=st.integers(0, 999), batch=st.lists(st.permutations(range(N)).map(tuple), max_size=6), cut=st.integers(0, N)
)
@settings(max_examples=40, deadline=None)
def test_equals_its_plain_twin_within_0_and_1(
    make: Callable[[int], tuple[Term, Plain]], seed: int, batch: list[Selection], cut: int
) -> None:
    term, plain = make(seed)
    selections = [selection[: (cut + at) % (N + 1)] for at, selection in enumerate(batch)]
    values = term(selections)
    assert values.shape == (len(selections),)
    assert values == pytest.approx([plain(selection) for selection in selections])
    assert all(0.0 <= value <= 1.0 for value in values)


@every_term
@pytest.mark.parametrize("seed", range(4))
def test_a_value_does_not_depend_on_its_batch(make: Callable[[int], tuple[Term, Plain]], seed: int) -> None:
    term, _ = make(seed)
    assert term(SUBSETS).tolist() == [float(term([subset])[0]) for subset in SUBSETS]
    assert term([()])[0] == 0.0


@every_term
@pytest.mark.parametrize("seed", range(6))
def test_bounds_hold_for_everything_between(make: Callable[[int], tuple[Term, Plain]], seed: int) -> None:
    term, _ = make(seed)
    for chosen in SUBSETS:
        for others in (SUBSETS[-1], range(max(chosen, default=0) + 1, N)):
            left = [i for i in others if i not in chosen]
            between = [(*chosen, *more) for size in range(len(left) + 1) for more in combinations(left, size)]
            values = term(between)
            assert term.least(chosen, left) - 1e-12 <= values.min()
            assert values.max() <= term.most(chosen, left) + 1e-12


def test_coverage_by_hand() -> None:
    """Weights 3 and 1: two halves of the first aspect cover 1 - 0.5 * 0.5 = 0.75 of it: 3/4 * 0.75 + 1/4 * 0.2."""
    term = Coverage(np.array([3.0, 1.0]), np.array([[0.5, 0.5], [0.0, 0.2]]))
    assert term([(0,), (1,), (0, 1)]) == pytest.approx([0.375, 0.425, 0.6125])


def test_coverage_of_no_aspect_is_nothing() -> None:
    assert Coverage(np.zeros(0), np.zeros((0, 3)))([(0, 1), (2,)]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(20))
def test_no_set_within_the_budget_gathers_more_than_the_best_value(seed: int) -> None:
    """Cut into tokens, candidates of one token each are taken best first: the same sum by brute force."""
    values = table(seed, N)
    costs = [1 + int(9 * cost) for cost in table(seed + 100, N)]
    whole = most_gathered(values, costs, 12)
    feasible = [s for s in SUBSETS if sum(costs[i] for i in s) <= 12]
    assert max(sum(values[i] for i in s) / whole for s in feasible) <= values.max() + 1e-12
    by_token = sorted((v / c for v, c in zip(values.tolist(), costs, strict=True) for _ in range(c)), reverse=True)
    assert whole == pytest.approx(max(1.0, sum(by_token[:12]) / values.max()))


def test_a_full_budget_of_equals_gathers_their_relevance() -> None:
    """Three of 0.4 fit: 3 * 0.4 / 3."""
    values = np.full(5, 0.4)
    term = Gathered(values, most_gathered(values, [10] * 5, 30))
    assert term([(0, 1, 2), (4,)]) == pytest.approx([0.4, 0.4 / 3])
    assert most_gathered(np.zeros(2), [1, 1], 2) == 1.0
    assert most_gathered(np.zeros(0), [], 2) == 1.0


def test_one_copy_among_two_and_four() -> None:
    similarity = np.eye(4)
    similarity[0, 1] = similarity[1, 0] = 1.0
    assert Redundancy(similarity)([(0, 1), (0, 1, 2, 3), (2, 3)]).tolist() == [0.5, 0.25, 0.0]


def test_disorder_of_a_reversed_selection_is_whole() -> None:
    """Of three pairs one stands wrong in (1, 0, 2)."""
    assert Disorder(np.arange(3.0))([(2, 1, 0), (0, 1, 2), (1, 0, 2)]).tolist() == [1.0, 0.0, pytest.approx(1 / 3)]


def test_equal_places_may_stand_either_way() -> None:
    assert Disorder(np.array([1.0, 1.0]))([(0, 1), (1, 0)]).tolist() == [0.0, 0.0]


# --- the sum ---


def constant(value: float) -> Term:
    class Constant(Term):
        def __call__(self, selections: Sequence[Selection]) -> Array:
            return np.full(len(selections), value)

        def most(self, chosen: Selection, others: Sequence[int]) -> float:
            return value

        def least(self, chosen: Selection, others: Sequence[int]) -> float:
            return value

    return Constant()


def test_benefits_add_and_penalties_subtract() -> None:
    """0.15 * 1 + 0.35 * 0.5 + 0.25 * 0 - 0.3 * 0.5 - 0.1 * 0.4 - 0.02 * 1 = 0.115."""
    utility = WeightedSum.of(
        Weights(),
        coverage=constant(1.0),
        relevance=constant(0.5),
        bridge=constant(0.0),
        redundancy=constant(0.5),
        tokens=constant(0.4),
        order=constant(1.0),
    )
    assert utility([(0,), (1,)]) == pytest.approx([0.115, 0.115])
    assert utility.bound((0,), [1]) == pytest.approx(0.115)
    (parts,) = utility.parts([(0,)])
    assert parts["redundancy"] == pytest.approx(-0.15)
    assert sum(parts.values()) == pytest.approx(0.115)


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_of_a_sum_is_above_everything_between(seed: int) -> None:
    names = ("coverage", "entities", "relevance", "redundancy", "bridge", "tokens", "order")
    utility = WeightedSum.of(Weights(), **{n: make(seed)[0] for n, make in zip(names, TERMS, strict=True)})
    for chosen in SUBSETS:
        left = [i for i in range(N) if i not in chosen]
        between = [(*chosen, *more) for size in range(len(left) + 1) for more in combinations(left, size)]
        assert max(utility(between)) <= utility.bound(chosen, left) + 1e-12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"coverage": 0.4}, "the benefits sum to 1.25"),
        ({"likelihood": 0.1}, "the benefits sum to 1.1"),
        ({"redundancy": 0.9}, "the penalties sum to 1.02"),
        ({"tokens": -0.1}, "selection.weights.tokens = -0.1"),
        ({"bridge": float("nan")}, "selection.weights.bridge = nan"),
    ],
)
def test_weights_that_leave_the_scale_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Weights(**wrong)
