"""The tools: four verbs over one engine, each with its arguments, its result and the text a model reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from api.answer import degraded
from api.dialects.ordering import order
from api.errors import InvalidBody
from api.mcp.bounds import fitted
from api.mcp.schemas import (
    AnswerArguments,
    AnswerResult,
    CitedSource,
    CollectionsArguments,
    CollectionsResult,
    FoundPassage,
    KnownCollection,
    RankedDocument,
    RerankArguments,
    RerankResult,
    SearchArguments,
    SearchResult,
)
from api.rerank_schemas import RerankRequest
from api.service import Call
from indexes.corpus import clean_text
from indexes.filters import Filter, parse_filter
from rag.assemble import Engine
from rag.errors import CollectionError
from rag.pipeline import trace as reports_of
from rag.reranking.given import place_of
from rag.values import Query

MOST_COLLECTIONS = 200


@dataclass(frozen=True, slots=True)
class Tool:
    """``run`` takes a call and its arguments, an instance of ``takes``, and gives (a ``gives``, the same as text)."""

    name: str
    title: str
    description: str
    takes: type[msgspec.Struct]
    gives: type[msgspec.Struct]
    run: Callable[[Call, Any], tuple[msgspec.Struct, str]]


def search(call: Call, asked: SearchArguments) -> tuple[SearchResult, str]:
    collection = _collection(call.engine, asked.collection)
    pipeline = call.engine.pipeline(collection)
    call.account.query = asked.query
    ranking = pipeline.search(Query(asked.query, filter=_filter(asked.filter)), asked.k)
    call.account.ran(reports_of(ranking), collection, pipeline.name)
    kept, note = fitted([hit.chunk.text for hit in ranking], _most(call.engine), call.engine.encoder)
    results = [
        FoundPassage(
            chunk_id=hit.chunk.id,
            document_id=hit.chunk.doc_id,
            title=hit.chunk.title,
            text=text,
            relevance_score=round(ranking.relevance(hit), 4),
        )
        for hit, text in zip(ranking, kept, strict=False)
    ]
    lines = [
        f"{rank}. [{one.document_id}] {one.title} ({one.relevance_score})\n{one.text}"
        for rank, one in enumerate(results, start=1)
    ]
    note = ". ".join(filter(None, (note, *(report.degraded for report in reports_of(ranking)))))
    return SearchResult(collection=collection, results=results, note=note), _text(lines or ["Nothing was found."], note)


def rerank(call: Call, asked: RerankArguments) -> tuple[RerankResult, str]:
    wanted = RerankRequest(query=asked.query, documents=list(asked.documents), model=asked.model, top_n=asked.top_n)
    ordered = order(call, wanted)
    results = [
        RankedDocument(index=place_of(hit), relevance_score=round(ordered.ranking.relevance(hit), 4))
        for hit in ordered.ranking[: asked.top_n]
    ]
    lines = [f"{rank}. documents[{one.index}] ({one.relevance_score})" for rank, one in enumerate(results, start=1)]
    note = ". ".join(ordered.warnings)
    return RerankResult(model=ordered.name, results=results, note=note), _text(lines, note)


def answer(call: Call, asked: AnswerArguments) -> tuple[AnswerResult, str]:
    collection = _collection(call.engine, asked.collection)
    pipeline = call.engine.pipeline(collection, call.engine.settings.answer_pipeline)
    call.account.query = asked.question
    given = pipeline.answer(Query(asked.question, filter=_filter(asked.filter)))
    call.account.ran(reports_of(given.context.ranking, given.context.report, given.report), collection, pipeline.name)
    numbers = sorted({citation.number for citation in given.citations})
    chunks = {number: given.context.hits[number - 1].chunk for number in numbers}
    text, *kept = [clean_text(given.text), *(chunk.text for chunk in chunks.values())]
    (text, *kept), note = fitted([text, *kept], _most(call.engine), call.engine.encoder)
    sources = [
        CitedSource(number=number, chunk_id=chunk.id, document_id=chunk.doc_id, title=chunk.title, text=shown)
        for (number, chunk), shown in zip(chunks.items(), kept, strict=False)
    ]
    note = ". ".join(filter(None, (note, *degraded(given), *given.notes)))
    lines = [text, *(f"[{one.number}] {one.document_id}: {one.title}\n{one.text}" for one in sources)]
    result = AnswerResult(collection=collection, answer=text, found=given.found, sources=sources, note=note)
    return result, _text(lines, note)


def collections(call: Call, asked: CollectionsArguments) -> tuple[CollectionsResult, str]:
    home = call.engine.home
    names = [*home.names(), *sorted(home.aliases())]
    found = [_known(call.engine, name) for name in names[:MOST_COLLECTIONS]]
    note = f"{len(names) - len(found)} more were left out" if len(names) > len(found) else ""
    lines = [f"{one.name}: {one.documents} documents, {one.chunks} passages" for one in found]
    return CollectionsResult(collections=found, note=note), _text(lines or ["There is no collection."], note)


def _known(engine: Engine, name: str) -> KnownCollection:
    try:
        status = engine.collection(name).status()
    except CollectionError:
        return KnownCollection(name=name, documents=None, chunks=None)
    return KnownCollection(name=name, documents=status.documents, chunks=status.chunks)


def _collection(engine: Engine, name: str | None) -> str:
    """The collection that is meant. Raises InvalidBody where that is not clear."""
    if name:
        return name
    there = engine.home.names()
    if len(there) == 1:
        return there[0]
    known = ", ".join(there[:20]) or "none yet, build one with: kvasir index NAME SOURCE"
    raise InvalidBody(f"name a collection (there: {known})", "collection")


def _filter(wanted: dict[str, Any] | None) -> Filter | None:
    return None if wanted is None else parse_filter(wanted)


def _most(engine: Engine) -> int:
    return engine.settings.dialects.mcp_tokens


def _text(lines: list[str], note: str) -> str:
    return "\n".join([*lines, f"({note})"] if note else lines)


TOOLS = (
    Tool(
        "search",
        "Search a collection",
        "Finds the passages of a collection that fit a query best, with their documents' ids and titles.",
        SearchArguments,
        SearchResult,
        search,
    ),
    Tool(
        "rerank",
        "Put passages in order",
        "Orders passages that you have by their relevance to a query; returns their places in your list.",
        RerankArguments,
        RerankResult,
        rerank,
    ),
    Tool(
        "answer",
        "Answer from a collection",
        "Answers a question from a collection; [n] in the answer cites source n. Says so where there is no answer.",
        AnswerArguments,
        AnswerResult,
        answer,
    ),
    Tool(
        "collections",
        "List the collections",
        "The collections that can be searched, and how large they are.",
        CollectionsArguments,
        CollectionsResult,
        collections,
    ),
)
