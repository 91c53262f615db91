"""/v1/collections/{ref}/documents: add, list, read and delete documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import unquote_to_bytes

from litestar import delete, get, post
from litestar.params import FromPath, QueryParameter
from litestar.response.base import ASGIResponse
from msgspec import UNSET

from api.access import READ, WRITE
from api.bodies import decode, decoder
from api.collection_schemas import (
    AddDocuments,
    ChangeCounts,
    DeleteDocuments,
    DocumentBody,
    DocumentEntry,
    DocumentList,
    StoredDocument,
)
from api.errors import DocumentNotFound
from api.openapi import documented
from api.service import Call, Connection, reading, writing
from indexes.changes import Change
from indexes.corpus import Document, clean_text
from rag.errors import DuplicateDocument, InvalidInput

_ADD = decoder(AddDocuments)
_DELETE = decoder(DeleteDocuments)

_PATH = "/v1/collections/{ref:str}/documents"
_HIDDEN = [f"{_PATH}/delete", f"{_PATH}/delete/{{rest:path}}"]
"""The router sends these to the batch deletion's branch; documents may have such ids all the same."""

ADD_EXAMPLES = {
    "One document": {
        "documents": [{"id": "notes/leaf", "title": "Leaves", "text": "A leaf is green.", "metadata": {"year": 2020}}]
    }
}
DELETE_EXAMPLES = {"Two ids": {"ids": ["notes/leaf", "no-such-document"]}}


@post(
    _PATH,
    status_code=200,
    opt=WRITE,
    summary="Add or replace documents",
    description="Adds documents; one whose id is already there is replaced. They can be found when this answers.",
    operation_class=documented(AddDocuments, ADD_EXAMPLES, {200: (ChangeCounts,)}),
)
async def add(request: Connection, ref: FromPath[str]) -> ASGIResponse:
    return await writing(request, lambda call: _added(call, ref))


@get(
    _PATH,
    opt=READ,
    summary="List documents",
    description="A page of documents by ascending id.",
    operation_class=documented(None, {}, {200: (DocumentList,)}),
)
async def list_documents(
    request: Connection,
    ref: FromPath[str],
    limit: Annotated[int, QueryParameter(ge=1, le=1000, description="Most documents on the page")] = 100,
    after: Annotated[str, QueryParameter(description="Only documents with a greater id")] = "",
) -> ASGIResponse:
    return await reading(request, lambda call: _listed(call, ref, limit, clean_text(after)))


@get(
    _PATH + "/{doc_id:path}",
    opt=READ,
    summary="Read a document",
    description="A document as it is stored. Slashes in its id may stand as they are.",
    operation_class=documented(None, {}, {200: (StoredDocument,)}),
)
async def read(request: Connection, ref: FromPath[str]) -> ASGIResponse:
    wanted = _document_id(request)
    return await reading(request, lambda call: _stored(call, ref, wanted))


@get(_HIDDEN, opt=READ, include_in_schema=False)
async def read_hidden(request: Connection, ref: FromPath[str]) -> ASGIResponse:
    wanted = _document_id(request)
    return await reading(request, lambda call: _stored(call, ref, wanted))


@delete(
    _PATH + "/{doc_id:path}",
    status_code=200,
    opt=WRITE,
    summary="Delete a document",
    description="Deletes one document; it is gone from every search when this answers.",
    operation_class=documented(None, {}, {200: (ChangeCounts,)}),
)
async def delete_one(request: Connection, ref: FromPath[str]) -> ASGIResponse:
    wanted = _document_id(request)
    return await writing(request, lambda call: _deleted_one(call, ref, wanted))


@delete(_HIDDEN, opt=WRITE, status_code=200, include_in_schema=False)
async def delete_hidden(request: Connection, ref: FromPath[str]) -> ASGIResponse:
    wanted = _document_id(request)
    return await writing(request, lambda call: _deleted_one(call, ref, wanted))


@post(
    f"{_PATH}/delete",
    status_code=200,
    opt=WRITE,
    summary="Delete documents",
    description="Deletes documents by id; ids that are not there are passed over.",
    operation_class=documented(DeleteDocuments, DELETE_EXAMPLES, {200: (ChangeCounts,)}),
)
async def delete_many(request: Connection, ref: FromPath[str]) -> ASGIResponse:
    return await writing(request, lambda call: _deleted(call, ref))


def checked_documents(bodies: Sequence[DocumentBody], most: int) -> list[Document]:
    """The documents of a request. Raises InvalidInput for too many of them, DuplicateDocument for an id twice."""
    if len(bodies) > most:
        raise InvalidInput(f"{len(bodies)} documents in one request; the limit is {most}, send them in parts")
    documents = [_document(body) for body in bodies]
    for doc_id, times in Counter(document.id for document in documents).items():
        if times > 1:
            raise DuplicateDocument(f"document id {doc_id!r} occurs {times} times; send each document once")
    return documents


def _document(body: DocumentBody) -> Document:
    metadata = {
        name: tuple(value) if isinstance(value, list) else value  # a list of values as documents hold them
        for name, value in body.metadata.items()
    }
    return Document(body.id, body.title, body.text, metadata)


def _added(call: Call, ref: str) -> ChangeCounts:
    bodies = decode(_ADD, call.body).documents
    documents = checked_documents(bodies, call.engine.settings.server.max_documents)
    engine = call.engine
    change, trouble = engine.caching.add(engine.collection(ref), documents, engine.encoder)
    return _counts(change, trouble)


def _deleted(call: Call, ref: str) -> ChangeCounts:
    ids = decode(_DELETE, call.body).ids
    change, forgotten = call.engine.caching.delete(call.engine.collection(ref), ids)
    return _counts(change, forgotten.trouble)


def _deleted_one(call: Call, ref: str, doc_id: str) -> ChangeCounts:
    change, forgotten = call.engine.caching.delete(call.engine.collection(ref), [doc_id])
    if not change.deleted:
        raise DocumentNotFound(f"no document {doc_id[:200]!r} in collection {ref!r}")
    return _counts(change, forgotten.trouble)


def _listed(call: Call, ref: str, limit: int, after: str) -> DocumentList:
    store = call.engine.collection(ref).snapshot().store
    found = store.list_documents(after=after, limit=limit + 1)
    entries = [DocumentEntry(*row) for row in found[:limit]]
    return DocumentList(entries, entries[-1].id if len(found) > limit else None)


def _stored(call: Call, ref: str, doc_id: str) -> StoredDocument:
    document = call.engine.collection(ref).document(doc_id)
    if document is None:
        raise DocumentNotFound(f"no document {doc_id[:200]!r} in collection {ref!r}")
    return StoredDocument(document.id, document.title, document.text, dict(document.metadata))


def _counts(change: Change, trouble: str) -> ChangeCounts:
    counts = (change.generation, change.added, change.updated, change.deleted, change.empty, change.chunks)
    return ChangeCounts(*counts, cache_trouble=trouble or UNSET)


def _document_id(request: Connection) -> str:
    """The id as it was sent: the router would fold double slashes and drop a last one."""
    raw: bytes = request.scope["raw_path"].split(b"?", 1)[0]
    *_, doc_id = raw.lstrip(b"/").split(b"/", 4)
    return clean_text(unquote_to_bytes(doc_id).decode("utf-8", "replace"))
