"""``kvasir-eval tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from eval.cli_options import Collection, Config, Home, Json, Resamples, Seed, Sets, numbers, print_json


def tune(
    dataset: Annotated[str, typer.Option(help="A BEIR folder, or a set of ir_datasets.")],
    split: Annotated[str, typer.Option(help="The split to choose on; figures are reported on another.")],
    param: Annotated[
        list[str],
        typer.Option(help="fuse.weights[=STEP] fuse.method[=rrf,...] depth[=100,500] select.NAME=0:0.5:0.1; several."),
    ],
    name: Annotated[str, typer.Option(help="What the tuned pipeline is called.")] = "tuned",
    pipeline: Annotated[str | None, typer.Option("--pipeline", "-p", help="The pipeline whose keys are tuned.")] = None,
    sets: Sets = None,
    metric: Annotated[str, typer.Option("--metric", "-m", help="The measure of fusion; one.")] = "nDCG@10",
    search: Annotated[Literal["grid", "random"], typer.Option(help="All points, or some that are drawn.")] = "grid",
    points: Annotated[int, typer.Option(min=1, max=20_000, help="How many are drawn.")] = 50,
    depth: Annotated[int, typer.Option(min=1, max=10_000, help="Documents of a query that are scored.")] = 100,
    budget: Annotated[str, typer.Option(help="Tokens of context, for select.*; several with commas.")] = "256,512,1024",
    out: Annotated[Path | None, typer.Option(help="Write [pipeline.NAME] here (.toml), the record beside it.")] = None,
    collection: Collection = None,
    seed: Seed = 0,
    resamples: Resamples = 10_000,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Choose fusion weights, method, depth, or weights of chunk sets on one split, and record how."""
    from eval.tuning.tune import Tuning, run_tune
    from rag.config import load_settings, parse_overrides

    tuning = Tuning(
        name=name,
        base=pipeline,
        overrides=parse_overrides(sets or []),
        params=param,
        metric=metric,
        draw=points if search == "random" else 0,
        seed=seed,
        resamples=resamples,
        depth=depth,
        budgets=numbers(budget, "--budget 256,512"),
    )
    settings = load_settings(config, home=home)
    said = run_tune(settings, dataset, tuning, split=split, collection=collection, out=out).as_json()
    if as_json:
        print_json(said)
        return
    chosen, default, beside = said["chosen"], said["default"], said["beside_default"]
    typer.echo(f"{said['metric']} on {said['dataset']} {said['split']}, {said['queries']} queries")
    for one in sorted(said["tried"], key=lambda one: -one["value"])[:5]:
        typer.echo(f"  {one['value']:.4f}  {_words(one['point'])}")
    typer.echo(f"  {default['value']:.4f}  {_words(default['point'])}  (default), {len(said['tried'])} points tried")
    typer.echo(f"chosen: {_words(chosen['point'])}; the pipeline itself gives {chosen['by_the_pipeline']:.4f}")
    low, high = beside["interval"]
    typer.echo(f"{beside['difference']:+.4f} [{low:+.4f}, {high:+.4f}], p = {beside['p']:.4f}: {beside['note']}")


def _words(point: dict[str, object]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in point.items())
