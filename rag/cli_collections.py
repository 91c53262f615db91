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
from rag.errors import KvasirError

BATCH = 1000


def show_list(engine: Engine, as_json: bool) -> None:
    rows = [_row(engine, name) for name in engine.home.names()]
    aliases = engine.home.aliases()
    if as_json:
        typer.echo(json.dumps({"collections": rows, "aliases": aliases}))
        return
    for row in rows:
        text = row.get("error") or f"{row['documents']} documents, {row['chunks']} chunks, {row['vectors']} vectors"
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


def show_delete(engine: Engine, name: str, doc_ids: Sequence[str], as_json: bool) -> None:
    change = engine.collection(name).delete(doc_ids)
    typer.echo(json.dumps(asdict(change)) if as_json else f"deleted {change.deleted} of {len(set(doc_ids))} documents")


def show_add(engine: Engine, name: str, sources: Sequence[str], kind: str | None, as_json: bool) -> None:
    skipped: list[Skipped] = []
    documents = open_sources(sources, kind=kind).documents(skipped.append)
    collection = engine.collection(name)
    added = updated = chunks = 0
    while batch := list(islice(documents, BATCH)):
        change = collection.add(batch, engine.encoder)
        added, updated, chunks = added + change.added, updated + change.updated, chunks + change.chunks
    if as_json:
        typer.echo(
            json.dumps({"added": added, "updated": updated, "chunks": chunks, "skipped": [asdict(s) for s in skipped]})
        )
        return
    typer.echo(f"added {added} documents ({updated} of them replaced), {chunks} chunks")
    for one in skipped:
        typer.echo(f"  skipped {one.where}: {one.why}", err=True)
