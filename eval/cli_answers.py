"""``kvasir-eval answers``."""

from __future__ import annotations

from typing import Annotated

import typer

from eval.cli_options import (
    AllowTuned,
    Collection,
    Config,
    Fresh,
    Home,
    Jobs,
    Json,
    Limit,
    Rows,
    Sets,
    Split,
    Timeout,
    Url,
    print_json,
    running,
)


def answers(
    dataset: Annotated[str, typer.Argument(help="A BEIR folder whose queries say their answers.")],
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help="A pipeline's name.")] = "ask",
    sets: Sets = None,
    split: Split = "test",
    limit: Limit = 0,
    collection: Collection = None,
    url: Url = "",
    timeout: Timeout = 60.0,
    jobs: Jobs = 1,
    rows: Rows = None,
    fresh: Fresh = False,
    allow_tuned: AllowTuned = False,
    judge: Annotated[bool, typer.Option("--judge", help="Have the engine of [remote] grade the answers.")] = False,
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
        running=running(jobs, rows, fresh, url, timeout),
        config=config,
        allow_tuned=allow_tuned,
        judged=judge,
    ).as_json()
    if as_json:
        print_json(said)
        return
    typer.echo(f"{said['dataset']} {said['split']}: {said['pipeline']}, {said['questions']} questions")
    for name, value in said["metrics"].items():
        typer.echo(f"  {name:20} {value:.4f}  over {said['counted'][name]}")
    for name, value in said["tokens"].items():
        typer.echo(f"  {name:20} {'unknown' if value is None else format(value, '.1f')} tokens a question")
    if (judged := said["judge"]) is not None:
        verdicts = ", ".join(f"{count} {name}" for name, count in judged["verdicts"].items())
        typer.echo(
            f"  judged by {judged['model']}: {verdicts}; supported {judged['supported']:.0%} of {judged['judged']}"
        )
        typer.echo(f"  the judge read {judged['prompt_tokens']} tokens and wrote {judged['completion_tokens']}")
    at_once = "" if said["concurrency"] == [1] else f", {' and '.join(map(str, said['concurrency']))} at once"
    for stage, times in {"all": said["latency_ms"], **said["stages_latency_ms"]}.items():
        typer.echo(f"  {stage:20} p50 {times['p50']:.1f} ms, p95 {times['p95']:.1f} ms{at_once}")
    if (build := said["build"]) is not None:
        typer.echo(
            f"  {build['documents']} documents, {build['chunks']} chunks, {build['megabytes']:.1f} MiB; "
            f"{'found' if build['reused'] else 'built now'}: {sum(build['seconds'].values()):.1f} s"
        )
    memory = "" if said["peak_memory_mb"] is None else f"peak memory {said['peak_memory_mb']:.0f} MiB; "
    typer.echo(
        f"{memory}{said['resumed']} answers taken from the file; commit {said['commit'] or 'unknown'}; "
        f"{said['hardware']}"
    )
    for note in said["notes"]:
        typer.echo(note)
