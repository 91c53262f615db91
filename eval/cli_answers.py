"""``kvasir-eval answers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.cli_options import Config, Home, Json, Split, print_json


def answers(
    dataset: Annotated[str, typer.Argument(help="A BEIR folder whose queries say their answers.")],
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help="A pipeline's name.")] = "ask",
    sets: Annotated[list[str] | None, typer.Option("--set", help="Override a pipeline key: --set budget=512.")] = None,
    split: Split = "test",
    limit: Annotated[int, typer.Option(min=0, help="Take the first questions only, 0 takes all.")] = 0,
    collection: Annotated[str | None, typer.Option(help="Search this collection as it is; build none.")] = None,
    rows: Annotated[
        Path | None, typer.Option(help="Keep answers here as they come; an interrupted run goes on from there.")
    ] = None,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Answer questions with known answers: exact match, F1, citations, contexts, abstention, tokens and times."""
    from eval.answering import run_answers
    from rag.config import load_settings, parse_overrides

    said = run_answers(
        load_settings(config, home=home),
        dataset,
        pipeline=pipeline,
        overrides=parse_overrides(sets or []),
        split=split,
        limit=limit,
        collection=collection,
        rows=rows,
    ).as_json()
    if as_json:
        print_json(said)
        return
    typer.echo(f"{said['dataset']} {said['split']}: {said['pipeline']}, {said['questions']} questions")
    for name, value in said["metrics"].items():
        typer.echo(f"  {name:20} {value:.4f}  over {said['counted'][name]}")
    for name, value in said["tokens"].items():
        typer.echo(f"  {name:20} {value:.1f} tokens a question")
    for stage, times in {"all": said["latency_ms"], **said["stages_latency_ms"]}.items():
        typer.echo(f"  {stage:20} p50 {times['p50']:.1f} ms, p95 {times['p95']:.1f} ms")
    typer.echo(
        f"{said['resumed']} answers taken from the file; commit {said['commit'] or 'unknown'}; {said['hardware']}"
    )
