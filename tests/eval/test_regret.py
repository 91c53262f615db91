"""Regret curves: those of the searches' checks, drawn the same way every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.regret import DRAWN, POINTS, draw, regrets
from rag.errors import InvalidInput
from tests.eval.test_cli import run


def test_curves_fall_and_the_default_ends_lowest() -> None:
    rows = regrets(4)
    assert len(rows) == 2 * len(DRAWN) * len(POINTS)
    for ordered in (False, True):
        curves = {name: [row.mean for row in rows if (row.searcher, row.ordered) == (name, ordered)] for name in DRAWN}
        for curve in curves.values():
            assert curve == sorted(curve, reverse=True)
            assert all(0.0 <= value <= 1.0 for value in curve)
        assert curves["portfolio"][-1] <= min(curves["greedy"][-1], curves["random"][-1], curves["corag"][-1])
    assert max(row.mean for row in rows if row.searcher == "corag") > 0.05


def test_the_drawing_is_the_same_every_time_and_names_every_searcher(tmp_path: Path) -> None:
    said = json.loads(run("regret", "--instances", 1, "--out", tmp_path / "a.svg", "--json"))
    assert {row["searcher"] for row in said["regrets"]} == set(DRAWN)
    draw(regrets(1), tmp_path / "b.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    assert "published scheme, C = 2" in drawn
    with pytest.raises(InvalidInput, match=r"name a file\.svg"):
        draw(regrets(1), tmp_path / "none" / "c.svg")
