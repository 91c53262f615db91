"""``kvasir-eval bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.cli_options import Config, Home, print_json

if TYPE_CHECKING:
    from eval.bench.figures import Figures


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="bm25 dense build http start rerank cache select [all of them], serve, soak; all: by group, see --out."
        ),
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
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Whole runs; medians with the least and the most.")] = 1,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write JSON to this file, - prints it.")] = None,
    only: Annotated[str, typer.Option(help="With all: the groups that run, search,rerank,cache,select,serve.")] = "",
    out: Annotated[Path | None, typer.Option(help="With all: the folder of a file a group, as docs/bench.")] = None,
    readme: Annotated[
        Path | None, typer.Option(help="With all: write the section between its bench marks of --out's files.")
    ] = None,
    home: Home = None,
    config: Config = None,
) -> None:
    """Measure the speed as a ratio to the bare parts, both in the same run."""
    from eval.bench.home import ALL, GROUPS, groups, published, repeated, write_json
    from eval.bench.section import write_section
    from eval.bench.suite import run_suite
    from eval.commands import writable
    from rag.config import load_settings
    from rag.errors import InvalidInput

    chosen = names or []
    if (only or out or readme) and chosen != [ALL]:
        raise InvalidInput("--only, --out and --readme belong to: kvasir-eval bench all")
    if chosen == [ALL] and (out is None or not out.is_dir()):
        raise InvalidInput(f"there is no folder {str(out or '')!r} for the groups' files; name one with --out")
    writable(json_out, readme)
    settings = load_settings(config, home=home)

    def run(names: Sequence[str]) -> Figures:
        return run_suite(
            settings,
            names,
            data=data,
            collection=collection,
            sample=sample,
            repeats=repeats,
            shape=shape,
            minutes=minutes,
        )

    if chosen != [ALL]:
        _say(repeated(run, chosen, repeat), json_out)
        return
    assert out is not None
    for name in groups(only):
        figures = repeated(run, GROUPS[name], repeat)
        write_json(out / f"{name}.json", published(name, figures).as_json())
        _say(figures, None)
    if readme is not None:
        write_section(readme, out)


def _say(figures: Figures, file: Path | None) -> None:
    """As a table, and as JSON where that is wanted; ``-`` prints the JSON alone."""
    from eval.bench.home import write_json

    if file is not None and str(file) == "-":
        print_json(figures.as_json())
        return
    if file is not None:
        write_json(file, figures.as_json())
    from rich.console import Console

    from eval.bench.table import show

    show(figures, Console())
