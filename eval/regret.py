"""Regret against evaluations: searchers of chunk sets beside the optimum, as a table and a drawing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.machine import commit, hardware
from indexes.durable import write_atomic
from rag.errors import InvalidInput
from rag.selection.verification import Regret, Size, verify

DRAWN = ("portfolio", "tree", "beam", "local search", "greedy", "random", "corag")
NAMED = {"portfolio": "search (portfolio)", "tree": "mcts (tree alone)", "corag": "published scheme, C = 2"}
INK = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b", "#7f7f7f", "#d62728")
POINTS = (25, 50, 100, 200, 400)
LEAST = 1e-4
"""Regret below it is drawn there: the scale is logarithmic."""


def regrets(instances: int, seed: int = 0) -> tuple[Regret, ...]:
    """Mean regrets at POINTS over random sets of 12 and sequences of 7 candidates, each solved exhaustively."""
    sizes = (
        Size(n=12, instances=instances, points=POINTS),
        Size(n=7, instances=instances, points=POINTS, ordered=True),
    )
    rows = verify(small=1, sizes=sizes, laws_on=1, seed=seed).regrets
    return tuple(row for row in rows if row.searcher in DRAWN)


def as_json(rows: Sequence[Regret]) -> dict[str, Any]:
    """Plain values."""
    return {"regrets": [asdict(row) for row in rows], "commit": commit(), "hardware": hardware()}


def draw(rows: Sequence[Regret], file: Path) -> None:
    """The curves as SVG, one panel for sets and one for sequences; the same rows give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if file.suffix != ".svg" or not file.absolute().parent.is_dir():
        raise InvalidInput(f"{str(file)!r} cannot be drawn to; name a file.svg in a folder that is there")
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, ordered in zip(panels, (False, True), strict=True):
        shown = [row for row in rows if row.ordered is ordered]
        for name, ink in zip(DRAWN, INK, strict=True):
            line = [row for row in shown if row.searcher == name]
            values = [max(LEAST, row.mean) for row in line]
            axes.plot([row.evaluations for row in line], values, "o-", color=ink, ms=3, label=NAMED.get(name, name))
        axes.set(xscale="log", yscale="log", xlabel="evaluations", title=_title(shown, ordered=ordered))
        axes.set_xticks(POINTS, [str(point) for point in POINTS])
        axes.minorticks_off()
    panels[0].set_ylabel("mean regret")
    panels[1].legend(fontsize=7)
    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "regret", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    write_atomic(file, out.getvalue().encode())


def _title(rows: Sequence[Regret], *, ordered: bool) -> str:
    kind = "sequences" if ordered else "sets"
    return f"{kind} of {rows[0].n} candidates, {rows[0].instances} instances" if rows else kind
