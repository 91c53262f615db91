"""``kvasir-eval beir``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.cli_options import (
    MEASURES,
    AllowTuned,
    Collection,
    Config,
    Fresh,
    Home,
    Jobs,
    Json,
    Metrics,
    ResultOut,
    Rows,
    Sets,
    Split,
    Timeout,
    Url,
    print_json,
    running,
)


def beir(
    dataset: Annotated[str, typer.Argument(help="A BEIR folder, or a set of ir_datasets: scifact, beir/nfcorpus.")],
    pipeline: Annotated[str | None, typer.Option("--pipeline", "-p", help="A pipeline's name.")] = None,
    sets: Sets = None,
    metrics: Metrics = MEASURES,
    split: Split = "test",
    depth: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, help="Documents of a query that are scored [100, or what the measures look at]."
        ),
    ] = None,
    qrels: Annotated[Path | None, typer.Option(help="Judgements instead of the split's, BEIR or TREC form.")] = None,
    collection: Collection = None,
    url: Url = "",
    timeout: Timeout = 60.0,
    jobs: Jobs = 1,
    rows: Rows = None,
    fresh: Fresh = False,
    allow_tuned: AllowTuned = False,
    run_out: Annotated[Path | None, typer.Option(help="Write the ranking as a TREC run.")] = None,
    result_out: ResultOut = None,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Evaluate a pipeline on a BEIR test collection; its collection is built on first use."""
    from eval.retrieving import run_beir
    from rag.config import load_settings, parse_overrides

    report = run_beir(
        load_settings(config, home=home),
        dataset,
        pipeline=pipeline,
        overrides=parse_overrides(sets or []),
        metrics=metrics,
        split=split,
        depth=depth,
        qrels=qrels,
        collection=collection,
        running=running(jobs, rows, fresh, url, timeout),
        config=config,
        allow_tuned=allow_tuned,
        run_out=run_out,
        result_out=result_out,
    )
    if as_json:
        print_json(report.as_json())
        return
    from rich.console import Console

    from eval.report import show

    show(report, Console())
