"""``kvasir-eval``: score pipelines, score runs, measure against the bare parts. Imports nothing heavy by itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from eval.cli_answers import answers
from eval.cli_compare import compare
from eval.cli_datasets import datasets, import_set
from eval.cli_options import MEASURES, Config, Home, Json, Metrics, ResultOut, print_json
from eval.cli_regret import regret
from eval.cli_report import report
from eval.cli_reproduce import reproduce
from eval.cli_select import select
from rag.errors import KvasirError

app = typer.Typer(
    name="kvasir-eval",
    help="Evaluate retrieval: pipelines on test collections, TREC runs, rerankers, speed against the bare parts.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command()(compare)
app.command()(report)
app.command()(reproduce)
app.command()(datasets)
app.command()(answers)
app.command("import")(import_set)
app.command()(select)
app.command()(regret)


def main() -> None:
    """Entry point: errors of the library are one line on stderr and exit code 2."""
    try:
        app(standalone_mode=True)
    except KvasirError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


@app.command()
def beir(
    dataset: Annotated[str, typer.Argument(help="A BEIR folder, or a set of ir_datasets: scifact, beir/nfcorpus.")],
    pipeline: Annotated[str | None, typer.Option("--pipeline", "-p", help="A pipeline's name.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Override a pipeline key: --set alpha=0.3.")] = None,
    metrics: Metrics = MEASURES,
    split: Annotated[str, typer.Option(help="The split whose judgements count.")] = "test",
    depth: Annotated[int, typer.Option(min=1, max=10_000, help="Documents of a query that are scored.")] = 100,
    qrels: Annotated[Path | None, typer.Option(help="Judgements instead of the split's, BEIR or TREC form.")] = None,
    collection: Annotated[str | None, typer.Option(help="Search this collection as it is; build none.")] = None,
    run_out: Annotated[Path | None, typer.Option(help="Write the ranking as a TREC run.")] = None,
    result_out: ResultOut = None,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Evaluate a pipeline on a BEIR test collection; its collection is built on first use."""
    from eval.commands import run_beir
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
        run_out=run_out,
        result_out=result_out,
    )
    if as_json:
        print_json(report.as_json())
        return
    from rich.console import Console

    from eval.report import show

    show(report, Console())


@app.command()
def score(
    qrels: Annotated[Path, typer.Option(help="Judgements, TREC or BEIR form.")],
    run: Annotated[Path, typer.Option(help="A TREC run: qid Q0 docid rank score tag. Its ranks are not read.")],
    metrics: Metrics = MEASURES,
    per_query: Annotated[bool, typer.Option("--per-query", help="One line a query as well.")] = False,
    as_json: Json = False,
) -> None:
    """Score a TREC run; judged queries that it lacks count 0."""
    from eval.commands import score_run

    scored = score_run(qrels, run, metrics)
    scores = scored.scores
    if as_json:
        queries = {"per_query": scores.per_query} if per_query else {}
        counts = {
            "judged_queries": len(scores.per_query),
            "unjudged_queries": scored.unjudged,
            "missing_queries": scored.missing,
        }
        print_json({"metrics": scores.values, **counts, "notes": scored.notes, **queries})
        return
    from rich.console import Console

    from eval.report import show_scores

    show_scores(scores, Console(), per_query=per_query)
    for note in scored.notes:
        typer.echo(note)


@app.command()
def rerank(
    dataset: Annotated[Path, typer.Option(help="A folder in BEIR's layout with the candidates' texts.")],
    run: Annotated[Path, typer.Option(help="The candidate lists as a TREC run.")],
    reranker: Annotated[str, typer.Option("--reranker", "-r", help="A reranker's name; none scores the run as it is.")],
    model: Annotated[str, typer.Option(help="A model by path or hub name, or lexical [env KVASIR_MODEL__NAME].")] = "",
    depth: Annotated[int, typer.Option(min=1, max=10_000, help="Candidates of a list that are reranked.")] = 100,
    metrics: Metrics = "nDCG@10",
    split: Annotated[str, typer.Option(help="The split whose judgements count.")] = "test",
    qrels: Annotated[
        Path | None, typer.Option(help="Judgements, instead of the folder's qrels.full.txt or the split's.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Take the first queries only, 0 takes all.")] = 0,
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


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="bm25 dense build http start rerank cache select [all of them].")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A BEIR folder [env KVASIR_TEST_DATA/scifact].")] = None,
    collection: Annotated[str | None, typer.Option(help="Search this collection as it is; build none.")] = None,
    sample: Annotated[int, typer.Option(min=0, help="Documents of the build benchmark, 0 for all.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds, each measuring both sides.")] = 5,
    shape: Annotated[
        str, typer.Option(help="Of rerank, cache, select: tiny, small, qwen2.5-0.5b, qwen2.5-7b.")
    ] = "small",
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure the speed as a ratio to the bare parts, both in the same run."""
    from eval.bench.suite import run_suite
    from rag.config import load_settings

    figures = run_suite(
        load_settings(config, home=home),
        names or [],
        data=data,
        collection=collection,
        sample=sample,
        repeats=repeats,
        shape=shape,
    )
    if as_json:
        print_json(figures.as_json())
        return
    from rich.console import Console

    from eval.bench.table import show

    show(figures, Console())
