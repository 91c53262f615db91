"""The building commands, with progress on stderr so that stdout stays for results."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import typer

from indexes.build import BuildSettings, Built, Progress, build
from indexes.chunking import Chunking
from indexes.errors import CollectionNotFound
from indexes.readers.open_source import open_sources
from indexes.readers.source import Source
from rag.assemble import Engine, vector_settings
from rag.cli_options import counted
from rag.config import IndexConfig, settings_from

DEMO = "python-docs"
MAX_SHOWN = 20


def build_settings(chosen: IndexConfig, source: Source) -> BuildSettings:
    """What the [index] table means for a source; ``auto`` chunking goes by the kind of source."""
    kind = chosen.chunking
    if kind == "auto":
        by_source = {"beir": "whole", "jsonl": "sentences", "folder": "headings", "python-docs": "sentences"}
        kind = by_source.get(source.name.split(":")[0], "sentences")  # type: ignore[assignment]
    return BuildSettings(
        chunking=Chunking(kind, chosen.chunk_tokens, chosen.chunk_overlap),  # type: ignore[arg-type]
        vectors=vector_settings(chosen),
        duplicates=chosen.duplicates,
    )


def build_collection(
    engine: Engine,
    name: str,
    sources: Sequence[str],
    kind: str | None,
    chunking: str | None,
    duplicates: str | None,
    as_json: bool,
) -> int:
    """Build and say what came of it. How much was skipped."""
    asked = {key: value for key, value in (("chunking", chunking), ("duplicates", duplicates)) if value is not None}
    chosen = settings_from({"index": asked}).index if asked else IndexConfig()
    index = replace(engine.settings.index, **{key: getattr(chosen, key) for key in asked})
    source = open_sources(sources, kind=kind)
    built = run_build(engine, name, source, build_settings(index, source))
    typer.echo(json.dumps(summary(built), ensure_ascii=False)) if as_json else _say(built)
    return built.manifest.skipped


def build_demo(engine: Engine, quiet: bool) -> None:
    """The collection ``python-docs``, built where it is not there or was made by another Python or encoder."""
    source = open_sources([DEMO])
    try:
        manifest = engine.collection(DEMO).snapshot().manifest
        if manifest.source == source.name and manifest.encoder == engine.encoder.fingerprint:
            return
    except CollectionNotFound:
        pass
    built = run_build(engine, DEMO, source, build_settings(engine.settings.index, source))
    if not quiet:
        _say(built)


def run_build(engine: Engine, name: str, source: Source, settings: BuildSettings) -> Built:
    from indexes import jvm

    jvm.configure(engine.settings.index.java_heap_mb)
    with shown_progress() as progress:
        return build(engine.home, name, source, engine.encoder, settings, progress)


def summary(built: Built) -> dict[str, Any]:
    return {
        "collection": built.place.name,
        "version": built.place.version,
        "resumed": built.resumed,
        "documents": built.manifest.documents,
        "chunks": built.manifest.chunks,
        "skipped": [asdict(skipped) for skipped in built.skipped],
        "skipped_count": built.manifest.skipped,
        "seconds": built.manifest.seconds,
        "vectors": built.manifest.vectors,
        "encoder": built.manifest.encoder,
    }


def _say(built: Built) -> None:
    manifest, seconds = built.manifest, sum(built.manifest.seconds.values())
    name = f"{built.place.name}@{built.place.version}" + (" (resumed)" if built.resumed else "")
    size = f"{counted(manifest.documents, 'document')}, {counted(manifest.chunks, 'chunk')}, {manifest.vectors} vectors"
    typer.echo(f"built {name}: {size}, {seconds:.1f} s")
    for skipped in built.skipped[:MAX_SHOWN]:
        typer.echo(f"  skipped {skipped.where}: {skipped.why}", err=True)
    if manifest.skipped > MAX_SHOWN:
        typer.echo(f"  ... {manifest.skipped} skipped in all (--json lists them)", err=True)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar a step with rate and remaining time, on stderr, where stderr is a terminal; else a line a step."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
        tasks: dict[str, Any] = {}

        def show(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total, rate="")
            speed = bars.tasks[tasks[step]].speed
            bars.update(tasks[step], completed=done, total=total, rate=f"{speed:.0f}/s" if speed else "")

        yield show


def _lines() -> Progress:
    seen: dict[str, int] = {}

    def show(step: str, done: int, total: int | None) -> None:
        tenth = 10 * done // total if total else 0
        if seen.get(step) != tenth:
            seen[step] = tenth
            sys.stderr.write(f"{step} {done}/{total if total is not None else '?'}\n")

    return show
