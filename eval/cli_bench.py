"""``kvasir-eval bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.cli_options import Config, Home, Json, print_json


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="bm25 dense build http start rerank cache select [all of them], serve, soak."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A BEIR folder [env KVASIR_TEST_DATA/scifact].")] = None,
    collection: Annotated[str | None, typer.Option(help="Search this collection as it is; build none.")] = None,
    sample: Annotated[int, typer.Option(min=0, help="Documents of the build benchmark, 0 for all.")] = 1000,
    repeats: Annotated[
        int, typer.Option(min=1, help="Rounds, each measuring both sides; of serve: seconds of each load.")
    ] = 5,
    minutes: Annotated[float, typer.Option(min=0.1, max=600, help="How long soak runs.")] = 10.0,
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
        minutes=minutes,
    )
    if as_json:
        print_json(figures.as_json())
        return
    from rich.console import Console

    from eval.bench.table import show

    show(figures, Console())
