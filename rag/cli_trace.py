"""What the stages did, as a line for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from rag.choice import Choice, Weighed
from rag.values import StageReport


def as_json(stages: Sequence[StageReport], seconds: float) -> dict[str, Any]:
    return {"stages": [asdict(stage) for stage in stages], "seconds": seconds}


def say(stages: Sequence[StageReport], seconds: float) -> None:
    """What a reader should know about each stage, then a line with its time and what a model computed."""
    for stage in stages:
        for note in filter(None, (stage.degraded, *stage.notes)):
            typer.echo(f"note: {stage.stage}: {note}")
    typer.echo(f"{' | '.join(map(_said, stages))} | total {1e3 * seconds:.0f} ms")


def choice_as_json(choice: Choice | None) -> dict[str, Any] | None:
    """All of it, the tree included; None where the selector says nothing."""
    return None if choice is None else asdict(choice)


def say_choice(choice: Choice) -> None:
    """The best sets in the order they were found, and of every candidate why it is in or out."""
    counts = [f"{choice.evaluations} sets valued"] * bool(choice.evaluations)
    counts += [f"{choice.tokens} tokens computed"] * bool(choice.tokens)
    said = [f"utility {choice.utility:.4f}", *counts, choice.end] if choice.bests else ["by rank while they fit"]
    typer.echo(f"\nSelection by {choice.selector} ({', '.join(said)})")
    for best in choice.bests[1:]:
        typer.echo(f"  from {best.evaluations:>4} on {best.utility:.4f}  {', '.join(best.chunk_ids)}")
    for mark, group in (("+", choice.chosen), ("-", choice.rejected)):
        for weighed in group:
            typer.echo(f"  {mark} {_why(weighed)}")


def _why(weighed: Weighed) -> str:
    terms = ", ".join(f"{name} {value:+.3f}" for name, value in weighed.terms.items())
    place = f" in place of {weighed.instead_of}" if weighed.instead_of else ""
    return f"{weighed.chunk_id}  {weighed.by}" + (f"{place}: {weighed.gain:+.4f} = {terms}" if terms else "")


def _said(stage: StageReport) -> str:
    counts = [
        f"{value:g} {unit}"
        for value, unit in (
            (stage.tokens, "tokens"),
            (stage.passes, "passes"),
            (stage.decoded, "decoded"),
            (round(1e3 * stage.first_token), "ms to the first"),
            (stage.peak_mb, "MiB"),
            (stage.reused, "reused"),
        )
        if value
    ]
    if stage.cache_mode:
        counts.append(f"{stage.cache_mode}: {stage.recomputed:.1%} recomputed")
    return f"{stage.stage} {1e3 * stage.seconds:.0f} ms" + (f" ({', '.join(counts)})" if counts else "")
