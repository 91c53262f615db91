"""``kvasir-eval rerank``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.cli_options import Config, Home, Json, Limit, Metrics, ResultOut, Split, print_json


def rerank(
    dataset: Annotated[Path, typer.Option(help="A folder in BEIR's layout with the candidates' texts.")],
    run: Annotated[Path, typer.Option(help="The candidate lists as a TREC run.")],
    reranker: Annotated[str, typer.Option("--reranker", "-r", help="A reranker's name; none scores the run as it is.")],
    model: Annotated[str, typer.Option(help="A model by path or hub name, or lexical [env KVASIR_MODEL__NAME].")] = "",
    depth: Annotated[int, typer.Option(min=1, max=10_000, help="Candidates of a list that are reranked.")] = 100,
    metrics: Metrics = "nDCG@10",
    split: Split = "test",
    qrels: Annotated[
        Path | None, typer.Option(help="Judgements, instead of the folder's qrels.full.txt or the split's.")
    ] = None,
    limit: Limit = 0,
    deadline_ms: Annotated[float, typer.Option(min=0, max=86_400_000, help="Stop a query after that, 0: never.")] = 0.0,
    max_prefill_tokens: Annotated[int, typer.Option(min=0, help="Most tokens a query, 0 for no limit.")] = 0,
    run_out: Annotated[Path | None, typer.Option(help="Write the new order as a TREC run.")] = None,
    result_out: ResultOut = None,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Rerank given candidate lists and compare both orders. Needs no index and no Java."""
    from eval.rerank import run_rerank, show
    from rag.assemble import Engine
    from rag.config import load_settings
    from rag.runtime.meter import Limits

    report = run_rerank(
        Engine(load_settings(config, home=home)),
        dataset,
        run,
        reranker=reranker,
        model=model,
        depth=depth,
        metrics=metrics,
        split=split,
        qrels=qrels,
        limit=limit,
        limits=Limits(deadline_ms, max_prefill_tokens),
        run_out=run_out,
        result_out=result_out,
    )
    if as_json:
        print_json(report.as_json())
        return
    from rich.console import Console

    show(report, Console())
