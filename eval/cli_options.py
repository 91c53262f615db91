"""Options that several commands have, and how they print. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Home = Annotated[Path | None, typer.Option("--home", help="Where collections live [env KVASIR_HOME, ~/.kvasir].")]
Config = Annotated[Path | None, typer.Option("--config", help="A settings file [env KVASIR_CONFIG].")]
Metrics = Annotated[str, typer.Option("--metrics", "-m", help="Measures by ir-measures' names, blanks between.")]
ResultOut = Annotated[
    Path | None, typer.Option("--result", help="Write a result file: all of it by query, for compare and report.")
]
Files = Annotated[list[Path], typer.Argument(help="TREC runs, or result files of --result.")]
Qrels = Annotated[Path | None, typer.Option(help="Judgements, TREC or BEIR form; result files hold their own.")]
Data = Annotated[Path | None, typer.Option(help="A BEIR folder with the judgements and the queries' texts.")]
Split = Annotated[str, typer.Option(help="The split whose judgements count.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")]
Resamples = Annotated[int, typer.Option(help="Of the randomisation test and the interval.")]
MEASURES = "nDCG@10 R@100 RR@10"


def print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))
