"""/v1/collections: list, create from documents, status, remove."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from litestar import delete, get, post
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from msgspec import UNSET

from api.access import ADMIN, READ, WRITE
from api.bodies import decode, decoder
from api.collection_schemas import ChunkingBody, CollectionList, CollectionStatus, CreateCollection, Dropped
from api.documents import checked_documents
from api.openapi import documented
from api.service import Call, Connection, reading, writing
from indexes import jvm
from indexes.build import BuildSettings, build
from indexes.chunking import Chunking
from indexes.collection import Status
from indexes.corpus import Document
from indexes.home import check_name
from indexes.readers.source import Report
from rag.assemble import Engine, vector_settings
from rag.caching import Forgotten
from rag.config import IndexConfig
from rag.errors import CollectionError, CollectionExists, CollectionNotFound

_READER = decoder(CreateCollection)

EXAMPLES = {
    "Two documents": {
        "name": "plants",
        "documents": [
            {"id": "leaf", "title": "Leaves", "text": "A leaf turns light into sugar.", "metadata": {"year": 2001}},
            {"id": "root", "text": "A root takes up water.", "metadata": {"tags": ["soil", "water"]}},
        ],
        "chunking": "whole",
    }
}


@get(
    "/v1/collections",
    opt=READ,
    summary="List the collections",
    description="Every collection with what it holds now. One that cannot be opened is listed with its problem.",
    operation_class=documented(None, {}, {200: (CollectionList,)}, errors=(429, 500)),
)
async def list_collections(request: Connection) -> ASGIResponse:
    return await reading(request, _listed)


@post(
    "/v1/collections",
    status_code=201,
    opt=WRITE,
    summary="Create a collection",
    description="Builds a collection from the documents of the request and answers when it can be searched.",
    operation_class=documented(CreateCollection, EXAMPLES, {201: (CollectionStatus,)}),
)
async def create_collection(request: Connection) -> ASGIResponse:
    return await writing(request, _created, 201)


@get(
    "/v1/collections/{ref:str}",
    opt=READ,
    summary="Status of a collection",
    description="What a collection, given by name, alias or name@version, holds now.",
    operation_class=documented(None, {}, {200: (CollectionStatus,)}),
)
async def collection_status(request: Connection, ref: FromPath[str]) -> ASGIResponse:
    return await reading(request, lambda call: status_of(call.engine.collection(ref).status()))


@delete(
    "/v1/collections/{ref:str}",
    status_code=200,
    opt=ADMIN,
    summary="Remove a collection",
    description="Removes a collection with all its versions. Refused while an alias points at it.",
    operation_class=documented(None, {}, {200: (Dropped,)}),
)
async def drop_collection(request: Connection, ref: FromPath[str]) -> ASGIResponse:
    return await writing(request, lambda call: _dropped(call, ref))


def _listed(call: Call) -> CollectionList:
    home = call.engine.home
    return CollectionList([_entry(call.engine, name) for name in home.names()], home.aliases())


def _entry(engine: Engine, name: str) -> CollectionStatus:
    try:
        return status_of(engine.collection(name).status())
    except CollectionError as error:
        message = str(error).replace(str(engine.home.root), "$KVASIR_HOME")
        return CollectionStatus(name=name, status="damaged", problem=message)


def _created(call: Call) -> CollectionStatus:
    asked = decode(_READER, call.body)
    engine = call.engine
    documents = checked_documents(asked.documents, engine.settings.server.max_documents)
    if check_name(asked.name) in engine.home.names() or asked.name in engine.home.aliases():
        raise CollectionExists(
            f"{asked.name!r} is taken; choose another name, or add documents to it: "
            f"POST /v1/collections/{asked.name}/documents"
        )
    jvm.configure(engine.settings.index.java_heap_mb)
    settings = BuildSettings(
        chunking=_chunking(asked.chunking, engine.settings.index), vectors=vector_settings(engine.settings.index)
    )
    build(engine.home, asked.name, Posted(documents), engine.encoder, settings)
    return status_of(engine.collection(asked.name).status())


def _dropped(call: Call, name: str) -> Dropped:
    if name not in call.engine.home.names():
        there = ", ".join(call.engine.home.names()[:10]) or "none"
        raise CollectionNotFound(f"no collection {name[:80]!r} to remove (there: {there})")
    forgotten = call.engine.caching.drop(call.engine.collection(name)) if call.engine.caching.holds else Forgotten()
    call.engine.home.drop(name)
    return Dropped(name, forgotten.trouble or UNSET)


def _chunking(asked: str | ChunkingBody | None, index: IndexConfig) -> Chunking:
    """What the request says, filled up with the settings of [index]; posted documents under ``auto`` are sentences."""
    default = "sentences" if index.chunking == "auto" else index.chunking
    body = asked if isinstance(asked, ChunkingBody) else ChunkingBody(kind=asked or default)  # type: ignore[arg-type]
    limit = index.chunk_tokens if body.limit is None else body.limit
    overlap = min(index.chunk_overlap, max(limit - 1, 0)) if body.overlap is None else body.overlap
    return Chunking(body.kind, limit, overlap)


def status_of(status: Status) -> CollectionStatus:
    manifest = status.manifest
    return CollectionStatus(
        name=status.name,
        version=status.version,
        generation=status.generation,
        documents=status.documents,
        chunks=status.chunks,
        encoder=manifest.encoder,
        vectors=manifest.vectors,
        chunking=str(manifest.chunking.get("kind", "")),
        created=manifest.created,
    )


@dataclass(frozen=True)
class Posted:
    """The documents of one request as a Source."""

    sent: Sequence[Document]
    name: str = "api"

    def fingerprint(self) -> str:
        """A hash of everything: the documents are in memory already."""
        digest = hashlib.blake2b(digest_size=16)
        for document in self.sent:
            digest.update(repr((document.id, document.title, document.text, document.metadata)).encode("utf-8"))
        return digest.hexdigest()

    def count(self) -> int:
        return len(self.sent)

    def documents(self, skipped: Report) -> Iterator[Document]:
        return iter(self.sent)
