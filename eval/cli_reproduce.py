"""``kvasir-eval reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.cli_options import Json, print_json

if TYPE_CHECKING:
    from eval.reproduce import Outcome


def reproduce(
    only: Annotated[
        list[str] | None, typer.Option(help="offline, a condition, a set, or CONDITION/SET; several add up.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The folder that holds sets by name [env KVASIR_TEST_DATA].")
    ] = None,
    models: Annotated[Path | None, typer.Option(help="A folder with models, by the last part of their name.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Run nothing, list the published figures.")] = False,
    home: Annotated[
        Path | None, typer.Option("--home", help="Where collections live [env KVASIR_HOME, ~/.kvasir].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run what published figures are made of, where data and models are here. Exit code 1 where one does not come out.

    What is not here is skipped and said; where nothing can be run at all, the exit code is 2.
    """
    from eval.reproduce import Outcome, Verdict, places, run_command
    from eval.reproduce import reproduce as run
    from eval.reproductions import chosen
    from rag.config import load_settings
    from rag.errors import InvalidInput

    wanted = chosen(only or [])
    if listed:
        outcomes = [Outcome(reproduction=one, verdict=Verdict.SKIPPED, why=one.cannot) for one in wanted]
    else:
        outcomes = []
        for outcome in run(wanted, places(data, models, load_settings(home=home).home), run_command):
            outcomes.append(outcome)
            if not as_json and outcome.verdict is not Verdict.SKIPPED:
                typer.echo(f"{outcome.reproduction.name}: {outcome.verdict}", err=True)
    if as_json:
        print_json([outcome.as_json() for outcome in outcomes])
    else:
        _show(outcomes, listed=listed)
    if listed:
        return
    if all(outcome.verdict is Verdict.SKIPPED for outcome in outcomes):
        raise InvalidInput(f"nothing could be run, for example {wanted[0].name}: {outcomes[0].why}")
    if any(outcome.verdict in (Verdict.DIFFERS, Verdict.FAILED) for outcome in outcomes):
        raise typer.Exit(1)


def _show(outcomes: list[Outcome], *, listed: bool) -> None:
    """A line a measure that was run, or is listed; then how many were skipped and why; then notes."""
    from collections import Counter

    from eval.reproduce import Verdict

    skipped: Counter[str] = Counter()
    for outcome in outcomes:
        one = outcome.reproduction
        if outcome.verdict is Verdict.SKIPPED and not listed:
            skipped[outcome.why] += 1
            continue
        for measure, value in one.expected.items():
            got = f"{outcome.got[measure]:.4f}" if measure in outcome.got else "-"
            verdict = outcome.why if listed else outcome.verdict
            typer.echo(f"{one.name:44} {measure:8} {value:.4f} +-{one.tolerance:<7g}{got:>7}  {verdict}")
        if not listed and (outcome.why or one.note):
            typer.echo(f"    {outcome.why or one.note}")
    for why, count in skipped.items():
        typer.echo(f"skipped {count}: {why}")
