"""``kvasir-eval regret``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.cli_options import Json, Seed, print_json


def regret(
    instances: Annotated[int, typer.Option(min=1, help="Random problems of each size.")] = 60,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Draw the curves into this SVG file.")] = None,
    wants_json: Json = False,
) -> None:
    """Searchers of chunk sets beside the optimum after so many evaluations, on made problems."""
    from eval.regret import as_json, draw, regrets

    rows = regrets(instances, seed)
    if out is not None:
        draw(rows, out)
    if wants_json:
        print_json(as_json(rows))
        return
    for row in rows:
        kind = "sequences" if row.ordered else "sets"
        typer.echo(f"{kind} of {row.n:<3} {row.searcher:<13} @{row.evaluations:<4} {row.mean:.2%}")
