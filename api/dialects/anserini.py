"""GET /v1/{index}/search and /v1/{index}/doc/{docid}: BM25 for the clients of Anserini's and Pyserini's server."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.exceptions import HTTPException
from litestar.params import FromPath, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.types import ExceptionHandlersMap

from api.access import READ
from api.dialects.anserini_schemas import (
    AnseriniAnswer,
    AnseriniCandidate,
    AnseriniDocument,
    AnseriniError,
    AnseriniQuery,
)
from api.errors import DocumentNotFound, InvalidBody, answer_error
from api.openapi import documented
from api.schemas import Problem
from api.service import JSON, Call, Connection, reading
from indexes.collection import Collection
from rag.config import MAX_K, IndexConfig
from rag.pipeline import Pipeline
from rag.pipeline import trace as reports_of
from rag.values import Hit, Query, Ranking

_STATUSES = (400, 401, 403, 404, 409, 429, 500, 503, 504)
_CHUNKS = 4
"""Chunks that are looked for at first, a document: several of one document count as one."""


def answer_failure(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for these routes."""
    answered = answer_error(request, error)
    problem = msgspec.json.decode(answered.content, type=Problem)
    status = 400 if problem.status == 422 else problem.status
    body = msgspec.json.encode(AnseriniError(problem.detail))
    return Response(body, status_code=status, media_type=JSON, headers=answered.headers)


_HANDLERS: ExceptionHandlersMap = {HTTPException: answer_failure, Exception: answer_failure}
Parse = Annotated[bool, QueryParameter(description="Documents as objects; else as JSON text")]
Length = Annotated[int | None, QueryParameter(ge=1, le=2**31, description="Characters of a text; needs parse")]


@get(
    "/v1/{index:str}/search",
    opt=READ,
    summary="Find documents, for Anserini's clients",
    description="The best documents of a collection by BM25. k1 and b are those it was opened with and go together.",
    operation_class=documented(None, {}, {200: (AnseriniAnswer,)}, errors=_STATUSES, failure=AnseriniError),
    exception_handlers=_HANDLERS,
)
async def anserini_search(
    request: Connection,
    index: FromPath[str],
    text: Annotated[str, QueryParameter(name="query", description="The query")],
    hits: Annotated[int, QueryParameter(ge=1, le=MAX_K, description="Most documents")] = 10,
    parse: Parse = True,
    k1: Annotated[float | None, QueryParameter(description="BM25's k1")] = None,
    b: Annotated[float | None, QueryParameter(description="BM25's b")] = None,
    max_doc_length: Length = None,
) -> ASGIResponse:
    def work(call: Call) -> AnseriniAnswer:
        _check(call.engine.settings.index, k1, b)
        shown = _Shown(call.engine.collection(index), parse, max_doc_length)
        call.account.query = text
        ranking, best = _documents(call.engine.pipeline(index, "bm25"), Query(text), hits)
        call.account.ran(reports_of(ranking), index, "bm25")
        candidates = [
            AnseriniCandidate(hit.chunk.doc_id, round(hit.score, 6), rank, shown.document(hit.chunk.doc_id))
            for rank, hit in enumerate(best, start=1)
        ]
        return AnseriniAnswer(index=index, query=AnseriniQuery(text), candidates=candidates)

    return await reading(request, work)


@get(
    "/v1/{index:str}/doc/{docid:path}",
    opt=READ,
    summary="Read a document, for Anserini's clients",
    description="A document of a collection.",
    operation_class=documented(None, {}, {200: (AnseriniDocument,)}, errors=_STATUSES, failure=AnseriniError),
    exception_handlers=_HANDLERS,
)
async def anserini_document(
    request: Connection, index: FromPath[str], docid: FromPath[str], parse: Parse = True, max_doc_length: Length = None
) -> ASGIResponse:
    name = docid.removeprefix("/")

    def work(call: Call) -> AnseriniDocument:
        shown = _Shown(call.engine.collection(index), parse, max_doc_length)
        return AnseriniDocument(index=index, docid=name, doc=shown.document(name))

    return await reading(request, work)


def _check(index: IndexConfig, k1: float | None, b: float | None) -> None:
    """Raises InvalidBody where one of k1 and b is missing, or they are not those of the server."""
    if (k1 is None) != (b is None):
        raise InvalidBody("send k1 and b together", "k1" if k1 is None else "b")
    if k1 is not None and (k1, b) != (index.k1, index.b):
        raise InvalidBody(f"k1 = {k1:g}, b = {b:g}; this server has k1 = {index.k1:g}, b = {index.b:g} ([index])", "k1")


def _documents(pipeline: Pipeline, query: Query, most: int) -> tuple[Ranking, list[Hit]]:
    """The ranking, and of its hits the best of each document, ``most`` of them where there are so many."""
    k = most
    while True:
        k = min(MAX_K, k * _CHUNKS)
        ranking = pipeline.search(query, k)
        best: dict[str, Hit] = {}
        for hit in ranking:
            best.setdefault(hit.chunk.doc_id, hit)
        if len(best) >= most or len(ranking) < k or k == MAX_K:
            return ranking, list(best.values())[:most]


class _Shown:
    """The documents of a collection as a request wants to see them. Raises InvalidBody for a length without parse."""

    def __init__(self, collection: Collection, parse: bool, most: int | None) -> None:
        if most is not None and not parse:
            raise InvalidBody("max_doc_length needs parse=true", "max_doc_length")
        self._collection, self._parse, self._most = collection, parse, most

    def document(self, doc_id: str) -> dict[str, Any] | str:
        found = self._collection.document(doc_id)
        if found is None:
            raise DocumentNotFound(f"no document {doc_id[:200]!r} in this collection")
        text = found.text if self._most is None else found.text[: self._most]
        whole = {"id": found.id, "title": found.title, "text": text, "metadata": dict(found.metadata)}
        return whole if self._parse else msgspec.json.encode(whole).decode()
