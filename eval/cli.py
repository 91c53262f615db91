"""``kvasir-eval``: score pipelines, score runs, measure against the bare parts. Imports nothing heavy by itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from eval.cli_answers import answers
from eval.cli_beir import beir
from eval.cli_bench import bench
from eval.cli_compare import compare
from eval.cli_datasets import datasets, import_set
from eval.cli_options import MEASURES, Json, Metrics, print_json
from eval.cli_regret import regret
from eval.cli_report import report
from eval.cli_reproduce import reproduce
from eval.cli_rerank import rerank
from eval.cli_select import select
from eval.cli_tune import tune
from rag.errors import KvasirError

app = typer.Typer(
    name="kvasir-eval",
    help="Evaluate retrieval: pipelines on test collections, TREC runs, rerankers, speed against the bare parts.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command()(beir)
app.command()(rerank)
app.command()(tune)
app.command()(compare)
app.command()(report)
app.command()(reproduce)
app.command()(datasets)
app.command()(answers)
app.command("import")(import_set)
app.command()(select)
app.command()(regret)
app.command()(bench)


def main() -> None:
    """Entry point: errors of the library are one line on stderr and exit code 2."""
    try:
        app(standalone_mode=True)
    except KvasirError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


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
