"""A comparison as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval.comparison import Change, Comparison, Pair

TEXT = 100
"""Characters of a query that are shown."""


def show(comparison: Comparison, console: Console) -> None:
    """Means, then a row a pair, then the queries that moved most, then how it was tested."""
    means = Table(title=f"{comparison.queries} judged queries")
    means.add_column("system")
    measures = list(next(iter(comparison.scores.values())).values)
    for measure in measures:
        means.add_column(measure, justify="right")
    for name, scores in comparison.scores.items():
        means.add_row(Text(name), *(f"{scores.values[measure]:.4f}" for measure in measures))
    console.print(means)
    for measure in measures:
        console.print(_pairs(comparison, measure))
    for pair in comparison.pairs:
        for change in pair.changed:
            _say(change, pair, console)
    rules = comparison.rules
    drawn = "" if all(pair.tested.exact for pair in comparison.pairs) else f"{rules.resamples} resamples, "
    console.print(
        f"paired and two-sided; p by the randomisation test, t by Student's, both corrected by Holm over "
        f"{len(comparison.pairs)} tests; interval {rules.confidence:.0%} by bootstrap; {drawn}seed {rules.seed}; "
        f"* randomisation p below {rules.alpha:g}",
        soft_wrap=True,
    )
    for note in comparison.notes:
        console.print(note, soft_wrap=True, markup=False)


def _pairs(comparison: Comparison, measure: str) -> Table:
    table = Table(title=measure)
    table.add_column("pair", overflow="fold")
    for name in ("difference", "interval", "p", "t", "win/tie/loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for pair in comparison.pairs:
        if pair.measure != measure:
            continue
        tested = pair.tested
        mark = " *" if pair.randomised_corrected < comparison.rules.alpha else ""
        table.add_row(
            Text(f"{pair.after} - {pair.before}"),
            f"{tested.mean:+.4f}{mark}",
            f"{tested.low:+.4f} {tested.high:+.4f}",
            f"{pair.randomised_corrected:.4f}",
            "-" if pair.t_corrected is None else f"{pair.t_corrected:.4f}",
            f"{tested.wins}/{tested.ties}/{tested.losses}",
        )
    return table


def _say(change: Change, pair: Pair, console: Console) -> None:
    ranks = ", ".join(
        f"{doc_id}: {_rank(first)} to {_rank(second)}" for doc_id, (first, second) in change.ranks.items()
    )
    console.print(
        f"{pair.measure} {change.before:.4f} to {change.after:.4f}, {pair.before} to {pair.after}: "
        f"{change.query_id} {change.text[:TEXT]!r}; ranks {ranks or 'of no relevant document'}",
        soft_wrap=True,
        markup=False,
    )


def _rank(rank: int | None) -> str:
    return "none" if rank is None else str(rank)
