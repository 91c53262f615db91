"""The report's plots as SVG text. The same content gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.reporting.content import Content
from eval.reporting.pareto import Point, front

WIDE = 20.0
"""Costs whose ratio is larger are drawn on a logarithmic axis, from 0 to the least of them on a straight one."""
PAIRS = 6
"""Systems beside the first whose differences are drawn."""
INK = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#d62728")


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing: ``name`` its file's stem, ``says`` what it shows, in one sentence; ``png`` is empty unless wanted."""

    name: str
    says: str
    svg: str
    png: bytes = b""


def plots(content: Content, *, png: bool = False) -> list[Plot]:
    """Every plot that the content has figures for, also as an image of points where that is asked."""
    return [_drawn(name, says, figure, png) for name, says, figure in _figures(content)]


def _figures(content: Content) -> Iterator[tuple[str, str, Any]]:
    """Each drawing's name, sentence and figure."""
    for cost, label, name in (
        ("p50", "median milliseconds a query", "latency"),
        ("tokens", "prefill tokens a query", "tokens"),
    ):
        points = content.points(cost)
        if any(point.cost > 0 for point in points):
            yield f"quality-{name}", *_pareto(points, content.measures[0], label)
    if len(content.names) > 1:
        yield "differences", *_differences(content)
    stages = {name: content.costs[name].stages for name in content.names if content.costs[name].stages}
    if stages:
        yield "stages", "Mean time of each stage a query.", _stages(stages)


def _pareto(points: Sequence[Point], measure: str, label: str) -> tuple[str, Any]:
    figure, axes = _canvas(6.4, 3.8 + 0.25 * len(points))
    best = front(points)
    axes.step([p.cost for p in best], [p.quality for p in best], where="post", color="#888888", linewidth=1, zorder=1)
    for number, point in enumerate(points):
        axes.scatter([point.cost], [point.quality], color=_ink(number), s=36, zorder=2, label=_plain(point.name))
    if max(p.cost for p in points) > WIDE * min((p.cost for p in points if p.cost > 0), default=1.0):
        axes.set_xscale("symlog", linthresh=min(p.cost for p in points if p.cost > 0))
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(label)
    axes.set_ylabel(measure)
    axes.margins(0.12)
    _legend(axes)
    undominated = ", ".join(point.name for point in best)
    return f"{measure} against {label}; the line joins what no system beats: {undominated}.", figure


def _differences(content: Content) -> tuple[str, Any]:
    measure, (first, *others) = content.measures[0], content.names
    shown = others[:PAIRS]
    figure, rows = _canvas(6.4, 0.6 + 1.9 * len(shown), rows=len(shown))
    for number, (other, axes) in enumerate(zip(shown, rows, strict=True), start=1):
        heights = sorted(differences(content, measure, first, other).values(), reverse=True)
        axes.bar(range(len(heights)), heights, width=1.0, color=_ink(number))
        axes.axhline(0, color="#444444", linewidth=0.8)
        axes.set_title(_plain(f"{other} - {first}"), fontsize=9, loc="left")
        axes.xaxis.get_major_locator().set_params(integer=True)
    rows[-1].set_xlabel("judged queries, by difference")
    left = f"; {len(others) - PAIRS} more systems are in the tables" if len(others) > PAIRS else ""
    return f"{measure} of each query beside that of {first}{left}.", figure


def differences(content: Content, measure: str, before: str, after: str) -> dict[str, float]:
    """Query to its value in ``after`` minus that in ``before``."""
    one, two = content.scores[before].per_query, content.scores[after].per_query
    return {query_id: two[query_id][measure] - one[query_id][measure] for query_id in sorted(content.qrels)}


def _stages(stages: Mapping[str, Mapping[str, float]]) -> Any:
    figure, axes = _canvas(6.4, 0.9 + 0.45 * len(stages))
    order = list(dict.fromkeys(stage for times in stages.values() for stage in times))
    left = dict.fromkeys(stages, 0.0)
    for number, stage in enumerate(order):
        widths = [stages[name].get(stage, 0.0) for name in stages]
        axes.barh(
            [_plain(name) for name in stages], widths, left=list(left.values()), color=_ink(number), label=_plain(stage)
        )
        left = {name: left[name] + width for name, width in zip(stages, widths, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("mean milliseconds a query")
    axes.legend(fontsize=9, frameon=False, ncols=min(4, len(order)), loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _legend(axes: Any) -> None:
    """Names above the drawing, where none runs over another: one below the other."""
    axes.legend(fontsize=9, frameon=False, ncols=1, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _canvas(width: float, height: float, rows: int = 0) -> tuple[Any, Any]:
    """A figure with one pair of axes, or a list of ``rows`` of them; nothing global is touched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if rows:
        return figure, list(figure.subplots(rows, 1, sharex=True, sharey=True, squeeze=False)[:, 0])
    return figure, figure.subplots()


def _ink(number: int) -> str:
    return INK[number % len(INK)]


def _plain(text: str) -> str:
    """The text with dollar signs that stay dollar signs: two of them would begin a formula."""
    return text.replace("$", r"\$")


def _drawn(name: str, says: str, figure: Any, png: bool) -> Plot:
    return Plot(name, says, _svg(figure, name), _png(figure) if png else b"")


def _png(figure: Any) -> bytes:
    """The drawing at twice the points of a screen, without date or program."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=200, metadata={"Software": None})
    return out.getvalue()


def _svg(figure: Any, name: str) -> str:
    """The drawing with letters as letters, without date, its inner names told apart from other drawings'."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "svg.id": f"plot-{name}"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    drawn = out.getvalue()
    return drawn[drawn.index("<svg") :]
