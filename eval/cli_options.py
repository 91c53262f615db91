"""Options that several commands have, and how they print. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eval.running import Running

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
Sets = Annotated[list[str] | None, typer.Option("--set", help="Override a pipeline key: --set depth=200.")]
Collection = Annotated[str | None, typer.Option(help="Search this collection as it is; build none.")]
Limit = Annotated[int, typer.Option(min=0, help="Take the first queries only, 0 takes all.")]
Rows = Annotated[
    Path | None, typer.Option(help="Keep every query's row here as it comes; an interrupted run goes on from there.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin the file of --rows anew.")]
Jobs = Annotated[int, typer.Option(min=1, max=256, help="Queries under way at a time; results do not depend on it.")]
Url = Annotated[
    str, typer.Option(help="Ask this running server instead, with the key of KVASIR_API_KEY where it is set.")
]
AllowTuned = Annotated[
    bool, typer.Option("--allow-tuned", help="Report a split that the pipeline was tuned on, and say so.")
]
Timeout = Annotated[float, typer.Option(help="Seconds until an answer of the server has come whole.")]
MEASURES = "nDCG@10 R@100 RR@10"


def numbers(text: str, example: str) -> list[int]:
    """Whole numbers between commas, each once. Raises InvalidInput."""
    from rag.errors import InvalidInput

    try:
        found = list(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError:
        found = []
    if not found:
        raise InvalidInput(f"{text!r} is no list of whole numbers; write {example}")
    return found


def running(jobs: int, rows: Path | None, fresh: bool, url: str, timeout: float) -> Running:
    """How the queries are asked; the key comes from the environment alone, where no list of processes shows it."""
    import os

    from eval.running import Running
    from eval.server import KEY

    return Running(jobs=jobs, rows=rows, fresh=fresh, url=url, key=os.environ.get(KEY, ""), timeout=timeout)


def print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))
