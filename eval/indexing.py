"""The collection a test collection is searched in: found in the home directory, or built there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eval.beir import Dataset
from eval.machine import size_mb
from indexes.manifest import Manifest
from indexes.readers.beir import Beir
from rag.assemble import Engine, vector_settings
from rag.errors import CollectionError


@dataclass(frozen=True, slots=True)
class Indexed:
    """A collection ready to be searched.

    seconds  what each step of its build took, now or back then;  megabytes  its size on the disk, in MiB; none and
             None where it lives behind a server
    """

    name: str
    documents: int
    chunks: int
    encoder: str
    seconds: Mapping[str, float]
    megabytes: float | None
    reused: bool

    def as_json(self) -> dict[str, Any]:
        """What its build took and made, as plain values."""
        return {
            "seconds": dict(self.seconds),
            "documents": self.documents,
            "chunks": self.chunks,
            "megabytes": self.megabytes,
            "reused": self.reused,
        }


def index(engine: Engine, dataset: Dataset, collection: str | None = None) -> Indexed:
    """The dataset's collection, documents whole as BEIR's figures are made.

    A collection that the caller names is searched as it is and never built. Else the one named after the dataset
    is taken where the manifest says that it was made from this corpus, unchanged since, by the configured encoder;
    in all other cases it is built, with progress on stderr. Raises CollectionNotFound for a name that is not there.
    """
    if collection is not None:
        return _found(engine, collection)
    name, source = dataset.collection, Beir(dataset.path)
    if _fits(engine, name, source):
        return _found(engine, name)
    from rag.cli_index import build_settings, run_build

    settings = build_settings(replace(engine.settings.index, chunking="whole"), source)
    built = run_build(engine, name, source, settings)
    return _indexed(engine, name, built.manifest, built.manifest.documents, built.manifest.chunks, reused=False)


def _fits(engine: Engine, name: str, source: Beir) -> bool:
    try:
        status = engine.collection(name).status()
    except CollectionError:  # not there, damaged or of another format: building is the way out
        return False
    manifest = status.manifest
    return (
        (manifest.source, manifest.fingerprint) == (source.name, source.fingerprint())
        and (status.documents, status.chunks) == (manifest.documents, manifest.chunks)
        and manifest.encoder == engine.encoder.fingerprint
        and manifest.chunking["kind"] == "whole"
        and manifest.vectors == vector_settings(engine.settings.index).resolve(manifest.chunks)
    )


def _found(engine: Engine, name: str) -> Indexed:
    status = engine.collection(name).status()
    return _indexed(engine, name, status.manifest, status.documents, status.chunks, reused=True)


def _indexed(engine: Engine, name: str, manifest: Manifest, documents: int, chunks: int, *, reused: bool) -> Indexed:
    megabytes = size_mb(engine.home.resolve(name).path)
    return Indexed(name, documents, chunks, manifest.encoder, manifest.seconds, megabytes, reused)
