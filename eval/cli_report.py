"""``kvasir-eval report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.cli_options import MEASURES, Data, Files, Metrics, Qrels, Resamples, Seed, Split


def report(
    runs: Files,
    out: Annotated[Path, typer.Option(help="The folder to write to; report.html in it needs nothing else.")],
    qrels: Qrels = None,
    data: Data = None,
    split: Split = "test",
    metrics: Metrics = MEASURES,
    title: Annotated[str, typer.Option(help="The heading, else the set's name.")] = "",
    language: Annotated[str, typer.Option(help="Of the set, in MTEB's files.")] = "eng-Latn",
    png: Annotated[bool, typer.Option("--png", help="Write the plots as PNG as well.")] = False,
    seed: Seed = 0,
    resamples: Resamples = 10_000,
) -> None:
    """Write one HTML page, Markdown, LaTeX, plots, CSV, MTEB-style JSON and TREC runs of some systems."""
    from eval.commands import report_files
    from eval.comparison import Rules

    rules = Rules(seed=seed, resamples=resamples)
    written = report_files(
        runs, out, metrics, qrels=qrels, data=data, split=split, title=title, language=language, png=png, rules=rules
    )
    typer.echo(f"{written[0]} and {len(written) - 1} files beside it")
