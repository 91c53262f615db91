"""The report's tables as rows of text, the same in every form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.reporting.content import Content, Costs


@dataclass(frozen=True, slots=True)
class Cell:
    """Text of a table; ``strong`` is the best of its column, ``raised`` the letters behind it."""

    text: str
    strong: bool = False
    raised: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: its heading cells and its rows; ``words`` are the columns of text, the others hold figures."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: Sequence[int] = (0,)


COSTS = (
    ("p50", "p50 ms", "{:.1f}"),
    ("p95", "p95 ms", "{:.1f}"),
    ("tokens", "prefill tokens", "{:.1f}"),
    ("decoded", "decoded tokens", "{:.1f}"),
    ("cache_share", "from cache", "{:.0%}"),
    ("memory", "memory MiB", "{:.0f}"),
    ("index", "index MiB", "{:.1f}"),
    ("build_seconds", "build s", "{:.1f}"),
)


def quality(content: Content) -> Sheet:
    """A row a system with its letter, a column a measure, the best values strong, with letters of those it beats."""
    rows = []
    for name in content.names:
        row = [Cell(f"{content.letter(name)} {name}")]
        for measure in content.measures:
            value = round(content.scores[name].values[measure], 4)
            row.append(Cell(f"{value:.4f}", value == content.best(measure), " ".join(content.beats(name, measure))))
        rows.append(row)
    return Sheet(content.tested(), ["system", *content.measures], rows)


def costs(content: Content) -> Sheet:
    """A row a system with what it took, a dash where its file does not say."""
    rows = [[Cell(name), *(_cost(content.costs[name], key, form) for key, _, form in COSTS)] for name in content.names]
    return Sheet("Times and tokens a query; - is not measured.", ["system", *(head for _, head, _ in COSTS)], rows)


def _cost(costs: Costs, key: str, form: str) -> Cell:
    value = getattr(costs, key)
    return Cell("-" if value is None else form.format(value))


def pairs(content: Content) -> Sheet:
    """A row a pair and measure with the difference, its interval, both corrected p values, and the queries."""
    assert content.comparison is not None
    rules = content.comparison.rules
    rows = []
    for pair in content.comparison.pairs:
        tested = pair.tested
        rows.append(
            [
                Cell(f"{pair.after} - {pair.before}"),
                Cell(pair.measure),
                Cell(f"{tested.mean:+.4f}", pair.randomised_corrected < rules.alpha),
                Cell(f"{tested.low:+.4f} to {tested.high:+.4f}"),
                Cell(f"{pair.randomised_corrected:.4f}"),
                Cell("-" if pair.t_corrected is None else f"{pair.t_corrected:.4f}"),
                Cell(f"{tested.wins}/{tested.ties}/{tested.losses}"),
            ]
        )
    return Sheet(
        f"Mean difference with its {rules.confidence:.0%} bootstrap interval ({rules.resamples} resamples, seed "
        f"{rules.seed}); p of the randomisation test and of Student's paired t test, both by Holm over {len(rows)} "
        f"tests; strong where the first is below {rules.alpha:g}.",
        ["pair", "measure", "difference", "interval", "p", "p of t", "wins/ties/losses"],
        rows,
        (0, 1),
    )


def changed(content: Content) -> Sheet:
    """A row a query that moved most, with its value and the ranks of relevant documents in both systems."""
    assert content.comparison is not None
    rows = [
        [
            Cell(f"{pair.before} to {pair.after}"),
            Cell(f"{change.query_id}: {change.text}" if change.text else change.query_id),
            Cell(f"{pair.measure} {change.before:.4f} to {change.after:.4f}"),
            Cell(", ".join(f"{name}: {_rank(one)} to {_rank(two)}" for name, (one, two) in change.ranks.items())),
        ]
        for pair in content.comparison.pairs
        for change in pair.changed
    ]
    return Sheet("Queries that moved most.", ["pair", "query", "value", "ranks of relevant documents"], rows, (0, 1, 3))


def _rank(rank: int | None) -> str:
    return "none" if rank is None else str(rank)


def sheets(content: Content) -> list[tuple[str, Sheet]]:
    """All tables under their headings, in the order they are read."""
    made = [("Quality", quality(content)), ("Cost", costs(content))]
    if content.comparison is not None:
        made += [("Differences", pairs(content)), ("Queries", changed(content))]
    return made
