"""What the stages did, as a line for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from rag.values import StageReport


def as_json(stages: Sequence[StageReport], seconds: float) -> dict[str, Any]:
    return {"stages": [asdict(stage) for stage in stages], "seconds": seconds}


def say(stages: Sequence[StageReport], seconds: float) -> None:
    """What a reader should know about each stage, then a line with its time and what a model computed."""
    for stage in stages:
        for note in filter(None, (stage.degraded, *stage.notes)):
            typer.echo(f"note: {stage.stage}: {note}")
    typer.echo(f"{' | '.join(map(_said, stages))} | total {1e3 * seconds:.0f} ms")


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
