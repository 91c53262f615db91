"""Tests of significance agree with counting every case, with closed forms, and with Holm's definition."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from eval.significance import bootstrap, holm, paired, randomisation, t_test

ONE = st.floats(-1, 1).map(lambda value: round(value, 3))


def by_counting(differences: list[float]) -> float:
    """The share of all 2^n assignments of signs whose mean lies as far from 0 as the one that was seen."""
    seen = abs(math.fsum(differences))
    signs = list(itertools.product((1, -1), repeat=len(differences)))
    sums = [abs(math.fsum(s * d for s, d in zip(row, differences, strict=True))) for row in signs]
    return sum(total >= seen - 1e-9 for total in sums) / len(signs)


@settings(max_examples=60, deadline=None)
@given(st.lists(ONE, min_size=1, max_size=8))
def test_the_randomisation_test_counts_every_assignment_of_signs(differences: list[float]) -> None:
    p, exact = randomisation(differences, seed=0, resamples=10_000)
    assert exact
    assert p == pytest.approx(by_counting(differences))


def test_three_wins_of_three_are_two_of_eight_assignments() -> None:
    p, exact = randomisation([0.1, 0.2, 0.3], seed=0, resamples=8)
    assert exact
    assert p == pytest.approx(2 / 8)


def test_ties_change_no_p() -> None:
    p, exact = randomisation([0.1, 0.2, 0.3, 0.0, 0.0, 1e-12], seed=0, resamples=8)
    assert exact
    assert p == pytest.approx(2 / 8)


def test_drawn_assignments_come_close_to_all_of_them_and_say_so() -> None:
    differences = [0.31, -0.12, 0.05, 0.22, -0.17, 0.09, 0.13, -0.02, 0.27, 0.04, -0.06, 0.11]
    whole, (p, exact) = by_counting(differences), randomisation(differences, seed=1, resamples=4000)
    assert not exact
    assert p == pytest.approx(whole, abs=4 * math.sqrt(whole / 4000))
    assert (p, exact) == randomisation(differences, seed=1, resamples=4000)
    assert (p, exact) != randomisation(differences, seed=2, resamples=4000)


def test_a_drawn_p_is_never_zero() -> None:
    p, exact = randomisation([0.5 + number / 100 for number in range(40)], seed=0, resamples=999)
    assert not exact
    assert p == pytest.approx(2 / 1000)


def test_the_t_test_with_two_degrees_of_freedom_has_a_closed_form() -> None:
    """Student's distribution with 2 degrees of freedom: P(|T| > t) = 1 - t / sqrt(2 + t^2)."""
    differences = [0.1, 0.3, 0.2]
    t = statistics.mean(differences) / (statistics.stdev(differences) / math.sqrt(3))
    assert t_test(differences) == pytest.approx(1 - t / math.sqrt(2 + t * t))


@given(st.lists(st.tuples(ONE, ONE), min_size=3, max_size=30))
def test_the_t_test_is_scipys_paired_one(pairs: list[tuple[float, float]]) -> None:
    ours = t_test([a - b for a, b in pairs])
    if ours is not None:
        assert ours == pytest.approx(stats.ttest_rel([a for a, _ in pairs], [b for _, b in pairs]).pvalue, rel=1e-6)


@pytest.mark.parametrize("differences", [[0.4], [0.0, 0.0], [0.25, 0.25, 0.25]])
def test_where_t_is_not_defined_there_is_no_p(differences: list[float]) -> None:
    assert t_test(differences) is None


def test_the_bootstrap_interval_is_that_of_all_resamples() -> None:
    """Five differences have 5^5 = 3,125 resamples; the drawn percentiles lie beside the exact ones."""
    differences = [0.0, 0.1, -0.2, 0.4, 0.3]
    means = sorted(math.fsum(row) / 5 for row in itertools.product(differences, repeat=5))
    low, high = bootstrap(differences, seed=3, resamples=20_000, confidence=0.9)
    assert low == pytest.approx(means[int(0.05 * len(means))], abs=0.021)
    assert high == pytest.approx(means[int(0.95 * len(means))], abs=0.021)


def test_without_spread_the_interval_is_a_point() -> None:
    assert bootstrap([0.25, 0.25], seed=0, resamples=100, confidence=0.95) == (0.25, 0.25)


def by_closed_testing(p_values: list[float]) -> list[float]:
    """Holm from its definition: a hypothesis falls when every set of hypotheses that holds it falls by Bonferroni."""
    places = range(len(p_values))
    sets = [chosen for size in places for chosen in itertools.combinations(places, size + 1)]
    return [
        max(min(1.0, len(chosen) * min(p_values[other] for other in chosen)) for chosen in sets if place in chosen)
        for place in places
    ]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_by_bonferroni(p_values: list[float]) -> None:
    assert holm(list(p_values)) == pytest.approx(by_closed_testing(p_values))


def test_holm_by_hand_and_a_test_without_value_does_not_count() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]


def test_wins_ties_and_losses_are_counted_by_query() -> None:
    said = paired([0.5, 0.0, -0.25, 1e-12, 0.1], seed=0, resamples=1000, confidence=0.95)
    assert (said.queries, said.wins, said.ties, said.losses) == (5, 2, 2, 1)
    assert said.mean == pytest.approx((0.5 - 0.25 + 0.1) / 5)
    assert said.low <= said.mean <= said.high


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="no query"):
        paired([], seed=0, resamples=10, confidence=0.95)
