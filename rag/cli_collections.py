"""What ``kvasir collections`` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import typer

from indexes.readers.open_source import open_sources
from indexes.readers.source import Skipped
from rag.assemble import Engine
from rag.cli_options import counted
from rag.errors import KvasirError

BATCH = 1000


def show_list(engine: Engine, as_json: bool) -> None:
    rows = [_row(engine, name) for name in engine.home.names()]
    aliases = engine.home.aliases()
    if as_json:
        typer.echo(json.dumps({"collections": rows, "aliases": aliases}))
        return
    for row in rows:
        text = row.get("error") or (
            f"{counted(row['documents'], 'document')}, {counted(row['chunks'], 'chunk')}, {row['vectors']} vectors"
        )
        typer.echo(f"{row['name']}@{row['version']}  {text}")
    for alias, target in aliases.items():
        typer.echo(f"{alias} -> {target}")
    if not rows:
        typer.echo(f"no collections in {engine.home.root}; build one with: kvasir index NAME SOURCE")


def _row(engine: Engine, name: str) -> dict[str, Any]:
    try:
        status = engine.collection(name).status()
    except KvasirError as error:
        return {"name": name, "version": engine.home.current(name), "error": str(error)}
    manifest = status.manifest
    return {
        "name": name,
        "version": status.version,
        "versions": engine.home.versions(name),
        "generation": status.generation,
        "documents": status.documents,
        "chunks": status.chunks,
        "vectors": manifest.vectors,
        "encoder": manifest.encoder,
        "created": manifest.created,
    }


def show_one(engine: Engine, name: str, as_json: bool) -> None:
    status = asdict(engine.collection(name).status())
    if as_json:
        typer.echo(json.dumps(status))
        return
    for key, value in (status | status.pop("manifest")).items():
        typer.echo(f"{key:>12}  {value}")


def drop(engine: Engine, name: str) -> None:
    """Delete a collection, and what language models read of its chunks."""
    forgotten = engine.caching.drop(engine.collection(name)) if engine.caching.holds else None
    engine.home.drop(name)
    if forgotten and forgotten.trouble:
        typer.echo(f"note: {forgotten.trouble}", err=True)


def show_delete(engine: Engine, name: str, doc_ids: Sequence[str], as_json: bool) -> None:
    change, forgotten = engine.caching.delete(engine.collection(name), doc_ids)
    if as_json:
        said = asdict(change) | {"states": forgotten.values, "cache_trouble": forgotten.trouble}
        typer.echo(json.dumps(said))
        return
    typer.echo(f"deleted {change.deleted} of {len(set(doc_ids))} documents")
    if forgotten.trouble:
        typer.echo(f"note: {forgotten.trouble}", err=True)


def show_add(engine: Engine, name: str, sources: Sequence[str], kind: str | None, as_json: bool) -> None:
    skipped: list[Skipped] = []
    documents = open_sources(sources, kind=kind).documents(skipped.append)
    collection = engine.collection(name)
    added = updated = chunks = 0
    troubles: set[str] = set()
    while batch := list(islice(documents, BATCH)):
        change, trouble = engine.caching.add(collection, batch, engine.encoder)
        troubles |= {trouble} if trouble else set()
        added, updated, chunks = added + change.added, updated + change.updated, chunks + change.chunks
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "added": added,
                    "updated": updated,
                    "chunks": chunks,
                    "skipped": [asdict(s) for s in skipped],
                    "cache_trouble": "; ".join(sorted(troubles)),
                }
            )
        )
        return
    typer.echo(f"added {added} documents ({updated} of them replaced), {chunks} chunks")
    for trouble in sorted(troubles):
        typer.echo(f"note: {trouble}", err=True)
    for one in skipped:
        typer.echo(f"  skipped {one.where}: {one.why}", err=True)
