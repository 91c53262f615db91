"""``kvasir-eval compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from eval.cli_options import Data, Files, Json, Metrics, Qrels, Resamples, Seed, Split, print_json


def compare(
    runs: Files,
    qrels: Qrels = None,
    data: Data = None,
    split: Split = "test",
    metrics: Metrics = "nDCG@10",
    baseline: Annotated[
        str | None, typer.Option(help="Compare all with this system only, by its file's name without ending.")
    ] = None,
    seed: Seed = 0,
    resamples: Resamples = 10_000,
    confidence: Annotated[float, typer.Option(help="Of the bootstrap interval.")] = 0.95,
    alpha: Annotated[float, typer.Option(help="A corrected p below it is called significant.")] = 0.05,
    changed: Annotated[int, typer.Option(min=0, help="Queries shown that moved most, of each pair.")] = 5,
    as_json: Json = False,
) -> None:
    """Test every pair of systems: randomisation and t test, Holm's correction, intervals, the queries that moved."""
    from eval.commands import compare_files
    from eval.comparison import Rules

    rules = Rules(seed=seed, resamples=resamples, confidence=confidence, alpha=alpha, changed=changed)
    comparison = compare_files(runs, metrics, qrels=qrels, data=data, split=split, baseline=baseline, rules=rules)
    if as_json:
        print_json(comparison.as_json())
        return
    from rich.console import Console

    from eval.comparison_table import show

    show(comparison, Console())
