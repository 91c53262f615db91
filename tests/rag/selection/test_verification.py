"""The verification of the selection search, with few instances; all of them by ``verify()``."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rag.selection import portfolio as portfolios
from rag.selection.evaluator import Ended, Evaluator
from rag.selection.instances import instance
from rag.selection.verification import Report, Size, verify
from rag.selection.verification_laws import knapsack

SMALL = Size(n=12, instances=8, points=(50, 400))
ORDERED = Size(n=7, instances=4, points=(50, 400), ordered=True)


def checked(sizes: Sequence[Size] = (SMALL,), **arguments: int | str) -> Report:
    return verify(small=24, sizes=sizes, laws_on=4, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report() -> Report:
    return checked((SMALL, ORDERED))


def test_every_check_passes(report: Report) -> None:
    assert [check for check in report.checks if not check.passed] == []
    assert report.passed
    assert report.seconds > 0


def test_the_table_holds_every_searcher_at_every_point(report: Report) -> None:
    places = [(row.searcher, row.n, row.evaluations) for row in report.regrets]
    assert len(places) == len(set(places)) == 9 * 4
    assert all(0.0 <= row.mean <= 1.0 and 0.0 <= row.optimal <= 1.0 for row in report.regrets)
    means = {(row.searcher, row.n, row.evaluations): row.mean for row in report.regrets}
    assert all(means[name, n, 400] <= means[name, n, 50] for name, n, _ in means)
    assert means["portfolio", 12, 400] < means["portfolio", 12, 50]
    at_400 = {row.searcher: row.mean for row in report.regrets if (row.n, row.evaluations) == (12, 400)}
    assert at_400["portfolio"] <= at_400["greedy"] < at_400["fill"]
    assert at_400["portfolio"] < at_400["corag"]


def test_greedy_alone_does_not_pass() -> None:
    failed = {check.name for check in checked(searcher="greedy").checks if not check.passed}
    assert {"exact on small pools", "regret, n = 12"} <= failed


def test_a_searcher_that_looks_at_nothing_fails_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    def idle(evaluate: Evaluator) -> Ended:
        return Ended()

    monkeypatch.setitem(portfolios.SEARCHERS, "idle", idle)
    failed = {check.name for check in checked(searcher="idle").checks if not check.passed}
    wanted = {"exact on small pools", "regret, n = 12", "never below greedy, n = 12", "additive utility"}
    assert wanted <= failed
    assert "deterministic" not in failed


def test_instances_are_the_same_for_the_same_seed() -> None:
    sets = [(0,), (1, 2), (0, 3, 5)]
    one, again, other = (instance(seed, 8) for seed in (1, 1, 2))
    assert (one.costs, one.budget, one.utility(sets)) == (again.costs, again.budget, again.utility(sets))
    assert one.utility(sets) != other.utility(sets)


def test_knapsack_by_hand() -> None:
    """Of 6 for 5, 5 for 4 and 4 for 3 tokens: the last two, 9 for 7, beat 6 and nothing beside it."""
    assert knapsack([6.0, 5.0, 4.0, -1.0], [5, 4, 3, 0], 7) == 9.0
