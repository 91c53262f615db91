"""Measured figures beside their floors and targets, as values, JSON and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One comparison.

    measured  Kvasir's value;  floor  the bare part's in the same run, None where there is none;  both in ``unit``
    target    a bound on ``compared``: at most it, or at least it where ``at_least``; None where nothing is promised
    relation  how the two are compared: ``ratio`` measured / floor, ``difference`` measured - floor, or ``value``
    note      the circumstances: sizes, clients, threads
    """

    name: str
    measured: float
    unit: str
    floor: float | None = None
    target: float | None = None
    at_least: bool = False
    relation: str = "ratio"
    note: str = ""

    @property
    def compared(self) -> float:
        """What the target bounds."""
        if self.relation == "value" or self.floor is None:
            return self.measured
        if self.relation == "difference":
            return self.measured - self.floor
        return self.measured / self.floor if self.floor else float("inf")

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or ``-`` where nothing is promised."""
        if self.target is None:
            return "-"
        reached = self.compared >= self.target if self.at_least else self.compared <= self.target
        return "met" if reached else "missed"

    @property
    def bound(self) -> str | None:
        """The target in words, None where nothing is promised."""
        return None if self.target is None else f"{'>=' if self.at_least else '<='} {self.target:g}"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "measured": round(self.measured, 4),
            "unit": self.unit,
            "floor": None if self.floor is None else round(self.floor, 4),
            "relation": self.relation,
            self.relation: round(self.compared, 4),
            "target": self.bound,
            "verdict": self.verdict,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All figures of one run, and where they were measured."""

    figures: Sequence[Figure]
    commit: str | None
    hardware: str

    def as_json(self) -> dict[str, Any]:
        return {
            "figures": [figure.as_json() for figure in self.figures],
            "commit": self.commit,
            "hardware": self.hardware,
        }


def show(figures: Figures, console: Console) -> None:
    """A row a figure; the floor is what the bare part took in the same run. Circumstances stand below."""
    table = Table(title="Kvasir beside the bare parts")
    table.add_column("figure")  # the only one that may wrap: a figure cut short would mislead
    for name in ("measured", "floor", "compared", "target", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for figure in figures.figures:
        table.add_row(*_row(figure), style="red" if figure.verdict == "missed" else None)
    console.print(table)
    for figure in figures.figures:
        if figure.note:
            console.print(f"{figure.name}: {figure.note}", soft_wrap=True)
    console.print(f"commit {figures.commit or 'unknown'}; {figures.hardware}", soft_wrap=True)


def _row(figure: Figure) -> tuple[str, str, str, str, str, str]:
    floor = "-" if figure.floor is None else f"{figure.floor:.3f}"
    mark = {"ratio": "x", "difference": f" {figure.unit}"}.get(figure.relation, "")
    compared = "-" if figure.relation == "value" else f"{figure.compared:.2f}{mark}"
    return figure.name, f"{figure.measured:.3f} {figure.unit}", floor, compared, figure.bound or "-", figure.verdict
