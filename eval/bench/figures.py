"""Measured figures beside their baselines, floors and targets, as values, JSON and a table.

Every benchmark is an iterator of ``Figure``, and a figure is one row of one table:

    figure | Kvasir | baseline | ratio | target | floor | from floor | verdict

A new benchmark says in ``Figure`` what it measured and in ``beside`` what the baseline is; a floor is given where the
least that the work can cost is known, by operations, bytes or tokens. ``eval.bench.suite`` runs benchmarks by name,
``eval.bench.home`` repeats them and keeps them as JSON, and ``eval.bench.section`` makes the README's section of that.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Relation = Literal["ratio", "difference", "value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One comparison.

    measured  Kvasir's value;  baseline  what the bare part took in the same run, None where there is none;
              both in ``unit``
    beside    what the baseline is, in a few words;  note  the circumstances: sizes, clients, threads
    floor     the least (for ``at_least`` the most) that is possible, in ``unit``, None where nobody knows it
    target    a bound on ``compared``: at most it, or at least it where ``at_least``; None where nothing is promised
    relation  how both are compared: ``ratio`` measured / baseline, ``difference`` measured - baseline, or ``value``
    spread    least and most of ``measured`` over repeated runs;  compared_spread  of ``compared``
    stated    the comparison as it was published, where only rounded values of both sides are left
    """

    name: str
    measured: float
    unit: str
    baseline: float | None = None
    beside: str = ""
    floor: float | None = None
    target: float | None = None
    at_least: bool = False
    relation: Relation = "ratio"
    note: str = ""
    spread: tuple[float, float] | None = None
    compared_spread: tuple[float, float] | None = None
    stated: float | None = None

    @property
    def compared(self) -> float:
        """What the target bounds."""
        if self.stated is not None:
            return self.stated
        if self.relation == "value" or self.baseline is None:
            return self.measured
        if self.relation == "difference":
            return self.measured - self.baseline
        return self.measured / self.baseline if self.baseline else float("inf")

    @property
    def from_floor(self) -> float | None:
        """How many times the floor was needed, from 1 on; None where there is no floor."""
        if self.floor is None or not self.floor or not self.measured:
            return None
        return self.floor / self.measured if self.at_least else self.measured / self.floor

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
        """Plain values, from which ``figure_from`` makes the same figure again: what follows, follows from them."""
        plain = self._plain()
        return {
            "name": plain.name,
            "measured": plain.measured,
            "spread": None if plain.spread is None else list(plain.spread),
            "unit": plain.unit,
            "baseline": plain.baseline,
            "beside": plain.beside,
            "relation": plain.relation,
            "compared": _rounded(plain.compared),
            "stated": plain.stated,
            "compared_spread": None if plain.compared_spread is None else list(plain.compared_spread),
            "target": plain.target,
            "at_least": plain.at_least,
            "bound": plain.bound,
            "verdict": plain.verdict,
            "floor": plain.floor,
            "from_floor": _rounded(plain.from_floor),
            "note": plain.note,
        }

    def _plain(self) -> Figure:
        """With six digits a value."""
        names = ("measured", "baseline", "floor")
        rounded: dict[str, Any] = {name: _rounded(getattr(self, name)) for name in names}
        for name in ("spread", "compared_spread"):
            if (pair := getattr(self, name)) is not None:
                rounded[name] = tuple(_rounded(value) for value in pair)
        return replace(self, **rounded)


def _rounded(value: float | None) -> float | None:
    """Six digits that count: a JSON file is compared line by line."""
    return None if value is None else float(f"{value:.6g}")


_SAID = ("name", "measured", "unit", "baseline", "beside", "floor", "target", "at_least", "relation", "note", "stated")


def figure_from(said: Mapping[str, Any]) -> Figure:
    """The figure of ``as_json``; values that follow from others are computed anew. Raises KeyError, TypeError."""
    given: dict[str, Any] = {name: said[name] for name in _SAID if name in said}
    for name in ("spread", "compared_spread"):
        given[name] = None if said.get(name) is None else (float(said[name][0]), float(said[name][1]))
    return Figure(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All figures of one run, and where they were measured; ``repeats`` is how often each was."""

    figures: Sequence[Figure]
    commit: str | None
    hardware: str
    command: str = ""
    repeats: int = 1

    def as_json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "commit": self.commit,
            "hardware": self.hardware,
            "repeats": self.repeats,
            "figures": [figure.as_json() for figure in self.figures],
        }


def merged(runs: Sequence[Sequence[Figure]]) -> list[Figure]:
    """One figure a name over several runs: medians of both sides, with the least and the most.

    Circumstances are those of the last run. A figure that some run lacks is taken over those that have it.
    """
    if len(runs) == 1:
        return list(runs[0])
    named: dict[str, list[Figure]] = {}
    for run in runs:
        for figure in run:
            named.setdefault(figure.name, []).append(figure)
    return [_median(figures) for figures in named.values()]


def _median(figures: Sequence[Figure]) -> Figure:
    measured = [figure.measured for figure in figures]
    compared = [figure.compared for figure in figures]
    baselines = [figure.baseline for figure in figures if figure.baseline is not None]
    return replace(
        figures[-1],
        measured=statistics.median(measured),
        baseline=statistics.median(baselines) if baselines else None,
        spread=(min(measured), max(measured)),
        compared_spread=(min(compared), max(compared)),
    )
