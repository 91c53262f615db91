"""What an evaluation of selectors says: intervals, paired tests against the first selector, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from eval.machine import command, commit, hardware, peak_memory_mb, versions
from eval.run import percentile
from eval.selecting import Selected, Selections
from eval.significance import Paired, bootstrap, holm, paired
from rag.selection_table import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How it is tested: seed and number of the resamples, and the confidence of intervals."""

    seed: int = 0
    resamples: int = 10_000
    confidence: float = 0.95


def as_json(selections: Selections, rules: Rules, weights: Weights) -> dict[str, Any]:
    """Plain values. Every selector is compared with the first one named, at the same budget, question by question.

    p values are of the randomisation test of the share of whole gold sets, corrected by Holm over all comparisons.
    """
    first = {row.budget: row for row in selections.rows if row.selector == selections.rows[0].selector}
    tests = [None if row is first[row.budget] else _paired(row, first[row.budget], rules) for row in selections.rows]
    corrected = holm([None if test is None else test.randomised_p for test in tests])
    rows = [
        _row(row, test, p, first[row.budget], rules)
        for row, test, p in zip(selections.rows, tests, corrected, strict=True)
    ]
    return {
        "dataset": selections.dataset,
        "split": selections.split,
        "half": selections.half,
        "pipeline": selections.pipeline,
        "overrides": dict(selections.overrides),
        "depth": selections.depth,
        "queries": len(selections.queries),
        "reachable": round(selections.reachable, 6),
        "ceiling": {str(budget): round(share, 6) for budget, share in selections.ceiling.items()},
        "baseline": selections.rows[0].selector,
        "selectors": rows,
        "weights": asdict(weights),
        "rules": asdict(rules),
        "peak_memory_mb": peak_memory_mb(),
        "commit": commit(),
        "command": command(),
        "versions": versions(),
        "hardware": hardware(),
        "notes": [
            *selections.notes,
            f"all selectors chose from the same {selections.depth} candidates a question",
            "whole_gold: every relevant document has a chunk in the context; nDCG over the context in prompt order",
            "precision is over the questions whose context is not empty",
        ],
    }


def _row(row: Selected, test: Paired | None, p: float | None, first: Selected, rules: Rules) -> dict[str, Any]:
    precision = [value for value in row.precision if value is not None]
    said = {
        "selector": row.selector,
        "budget": row.budget,
        "whole_gold": _interval(row.whole, rules),
        "support_recall": _interval(row.recall, rules),
        "context_precision": _interval(precision, rules) if precision else None,
        "ndcg": _interval(row.ndcg, rules),
        "tokens": _interval([float(count) for count in row.tokens], rules),
        "chunks": round(sum(row.chunks) / len(row.chunks), 3),
        "ms_p50": round(1e3 * percentile(row.seconds, 0.5), 3),
        "ms_p95": round(1e3 * percentile(row.seconds, 0.95), 3),
    }
    if test is None:
        return said
    return said | {
        "against": {
            "selector": first.selector,
            "difference": round(test.mean, 6),
            "low": round(test.low, 6),
            "high": round(test.high, 6),
            "randomised_p": test.randomised_p,
            "corrected_p": p,
            "wins": test.wins,
            "ties": test.ties,
            "losses": test.losses,
        }
    }


def _paired(row: Selected, first: Selected, rules: Rules) -> Paired:
    differences = [mine - other for mine, other in zip(row.whole, first.whole, strict=True)]
    return paired(differences, seed=rules.seed, resamples=rules.resamples, confidence=rules.confidence)


def _interval(values: Sequence[float], rules: Rules) -> dict[str, float]:
    low, high = bootstrap(values, seed=rules.seed, resamples=rules.resamples, confidence=rules.confidence)
    return {"mean": round(sum(values) / len(values), 6), "low": round(low, 6), "high": round(high, 6)}


def show(said: Mapping[str, Any], console: Console) -> None:
    """A row a selector and budget."""
    half = "" if said["half"] == "all" else f", {said['half']} half"
    table = Table(title=f"{said['dataset']} {said['split']}{half}: {said['pipeline']}, {said['queries']} questions")
    table.add_column("budget", justify="right")
    table.add_column("selector", no_wrap=True)
    for name in ("whole gold set", f"against {said['baseline']}", "p", "nDCG"):
        table.add_column(name, justify="right")
    contexts = Table(title="of a context, and milliseconds of selecting it")
    contexts.add_column("budget", justify="right")
    contexts.add_column("selector", no_wrap=True)
    for name in ("recall", "precision", "tokens", "p50", "p95"):
        contexts.add_column(name, justify="right")
    for budget in dict.fromkeys(row["budget"] for row in said["selectors"]):
        for row in (row for row in said["selectors"] if row["budget"] == budget):
            table.add_row(str(budget), *_cells(row))
            contexts.add_row(str(budget), *_costs(row))
        table.add_row("", "(at most)", f"{said['ceiling'][str(budget)]:.3f}", "", "", "", style="dim")
        table.add_section()
        contexts.add_section()
    console.print(table)
    console.print(contexts)
    confidence, resamples = said["rules"]["confidence"], said["rules"]["resamples"]
    console.print(
        f"intervals of {confidence:.0%} by bootstrap, p by paired randomisation ({resamples} resamples, Holm)",
        soft_wrap=True,
    )
    for note in said["notes"]:
        console.print(note, soft_wrap=True)
    console.print(f"peak memory {said['peak_memory_mb']:.0f} MiB", soft_wrap=True)
    console.print(f"commit {said['commit'] or 'unknown'}; {said['hardware']}", soft_wrap=True)


def _cells(row: Mapping[str, Any]) -> list[str]:
    whole, test = row["whole_gold"], row.get("against")
    return [
        row["selector"],
        f"{whole['mean']:.3f} [{whole['low']:.2f}, {whole['high']:.2f}]",
        f"{test['difference']:+.3f} (+{test['wins']} -{test['losses']})" if test else "",
        f"{test['corrected_p']:.4f}" if test else "",
        f"{row['ndcg']['mean']:.3f}",
    ]


def _costs(row: Mapping[str, Any]) -> list[str]:
    precision = row["context_precision"]
    return [
        row["selector"],
        f"{row['support_recall']['mean']:.3f}",
        "-" if precision is None else f"{precision['mean']:.3f}",
        f"{row['tokens']['mean']:.0f}",
        f"{row['ms_p50']:.1f}",
        f"{row['ms_p95']:.1f}",
    ]
