"""``kvasir-eval select``."""

from __future__ import annotations

from typing import Annotated

import typer

from eval.cli_options import AllowTuned, Config, Home, Json, Resamples, Seed, Split, print_json
from rag.errors import InvalidInput


def select(
    dataset: Annotated[str, typer.Option(help="A BEIR folder, or a set of ir_datasets.")],
    pipeline: Annotated[str | None, typer.Option("--pipeline", "-p", help="A pipeline's name.")] = None,
    depth: Annotated[int, typer.Option(min=1, max=10_000, help="Candidates of a question.")] = 30,
    budget: Annotated[str, typer.Option(help="Tokens of context, several with commas.")] = "256,512,1024",
    selector: Annotated[
        str, typer.Option("--selector", "-s", help="With commas; all are compared with the first.")
    ] = "fill,mmr,search",
    sets: Annotated[list[str] | None, typer.Option("--set", help="Override a pipeline key: --set fuse=rrf.")] = None,
    split: Split = "test",
    half: Annotated[str, typer.Option(help="Of the questions: all, tuning or held-out (every other by id).")] = "all",
    collection: Annotated[str | None, typer.Option(help="Search this collection as it is; build none.")] = None,
    allow_tuned: AllowTuned = False,
    seed: Seed = 0,
    resamples: Resamples = 10_000,
    home: Home = None,
    config: Config = None,
    wants_json: Json = False,
) -> None:
    """Choose contexts by several selectors: how often the whole gold set is in it, tokens, nDCG, paired tests."""
    from eval.select_report import Rules, as_json, show
    from eval.selecting import run_select
    from rag.config import load_settings, parse_overrides

    settings = load_settings(config, home=home)
    selections = run_select(
        settings,
        dataset,
        pipeline=pipeline,
        overrides=parse_overrides(sets or []),
        selectors=_named(selector),
        budgets=[_number(part) for part in _named(budget)],
        split=split,
        half=half,
        depth=depth,
        collection=collection,
        config=config,
        allow_tuned=allow_tuned,
    )
    said = as_json(selections, Rules(seed=seed, resamples=resamples), settings.selection.weights)
    if wants_json:
        print_json(said)
        return
    from rich.console import Console

    show(said, Console())


def _named(text: str) -> list[str]:
    """What stands between commas, each once. Raises InvalidInput where nothing does."""
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise InvalidInput(f"{text!r} names nothing; write for example fill,search or 256,512")
    return parts


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is no whole number; write --budget 256,512") from None
