"""Figures as text: the cells of the one table form, on the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from eval.bench.figures import Figure, Figures

HEADS = ("figure", "Kvasir", "baseline", "ratio", "target", "floor", "from floor")


def cells(figure: Figure) -> tuple[str, ...]:
    """A figure's texts under ``HEADS``; a dash where there is nothing to say."""
    beside = f"{figure.beside}: " if figure.beside and figure.baseline is not None else figure.beside
    baseline = beside if figure.baseline is None else f"{beside}{_with_unit(figure.baseline, figure.unit)}"
    floor = "-" if figure.floor is None else _with_unit(figure.floor, figure.unit)
    distance = "-" if figure.from_floor is None else f"{number(figure.from_floor)}x"
    return (
        figure.name,
        _with_unit(figure.measured, figure.unit) + _range(figure.spread),
        baseline or "-",
        _compared(figure),
        _target(figure),
        floor,
        distance,
    )


def _compared(figure: Figure) -> str:
    if figure.relation == "value" or figure.baseline is None:
        return "-"
    if figure.relation == "difference":
        return f"{figure.compared:+.3g} {figure.unit}" + _range(figure.compared_spread)
    return f"{number(figure.compared)}x" + _range(figure.compared_spread)


def _target(figure: Figure) -> str:
    if figure.bound is None:
        return "-"
    unit = "x" if figure.relation == "ratio" and figure.baseline is not None else figure.unit
    return f"{figure.bound}{'' if unit == 'x' else ' '}{unit}"


def _with_unit(value: float, unit: str) -> str:
    return f"{number(value)}{'' if unit == 'x' else ' '}{unit}".strip()


def _range(spread: tuple[float, float] | None) -> str:
    return "" if spread is None else f" ({number(spread[0])} to {number(spread[1])})"


def number(value: float) -> str:
    """About three digits that count, in groups of three where there are more."""
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 0.01 else 4
    return f"{value:.{digits}f}"


def markdown(figures: Sequence[Figure]) -> str:
    """The table in Markdown; the floors' columns only where a figure has one."""
    rows = [HEADS, *(cells(figure) for figure in figures)]
    width = len(HEADS) if any(figure.floor is not None for figure in figures) else HEADS.index("floor")
    lines = [f"| {' | '.join(_escaped(cell) for cell in row[:width])} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * width}", *lines[1:]])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def show(figures: Figures, console: Console) -> None:
    """A row a figure, missed ones in red; circumstances stand below."""
    table = Table(title="Kvasir beside the bare parts", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in (*HEADS, "verdict"):  # all may wrap: a figure cut short would mislead
        table.add_column(name, justify="left" if name in ("figure", "verdict") else "right", overflow="fold")
    for figure in figures.figures:
        table.add_row(*cells(figure), figure.verdict, style="red" if figure.verdict == "missed" else None)
    console.print(table)
    for figure in figures.figures:
        if figure.note:
            console.print(f"{figure.name}: {figure.note}", soft_wrap=True, markup=False)
    repeated = f"; median (least to most) of {figures.repeats} runs" if figures.repeats > 1 else ""
    console.print(
        f"{figures.command}; commit {figures.commit or 'unknown'}; {figures.hardware}{repeated}", soft_wrap=True
    )
