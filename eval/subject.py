"""What is evaluated: one pipeline over one collection, in this process or behind a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.asking import Found, Search, best_of, through_library
from eval.beir import Dataset
from eval.indexing import Indexed, index
from eval.made_by import asked_of, code, made_by
from eval.run import FIRST
from eval.server import Server
from eval.trec import Qrels
from eval.wire import SentSearch
from indexes.readers.beir import Beir
from rag.assemble import Engine
from rag.errors import InvalidInput
from rag.values import Query

OPENING = 200
"""Characters of a document that a server is asked with, to see what its settings do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One pipeline over one collection.

    fetch       chunks asked for a query, so that the depth is left when its own document is taken out
    candidates  the pipeline's depth, None where a server keeps it for itself
    unknown     relevant documents that the collection lacks
    made_by     what changes its results;  url  the server's, "" for the library
    """

    pipeline: str
    indexed: Indexed
    search: Search
    fetch: int
    candidates: int | None
    unknown: int
    made_by: Mapping[str, Any]
    url: str = ""


def in_library(
    engine: Engine,
    dataset: Dataset,
    pipeline: str | None,
    overrides: Mapping[str, Any],
    *,
    depth: int,
    collection: str | None = None,
) -> Subject:
    """The pipeline over the data set's collection, which is built where it is missing, at a depth that reaches.

    Raises InvalidInput where the collection has none of the relevant documents.
    """
    indexed = index(engine, dataset, collection)
    opened = engine.collection(indexed.name)
    known = {name for name in _wanted(dataset) if opened.document(name) is not None}
    unknown = lacking(indexed.name, dataset.qrels, known)
    fetch = depth + bool(known & dataset.queries.keys())
    configured = engine.settings.pipeline(pipeline, overrides).depth
    deep = {"depth": max(fetch, configured), **overrides}  # a deeper pipeline stays as it is
    chosen = engine.pipeline(indexed.name, pipeline, deep)
    by = made_by(engine, dataset, indexed, engine.settings.pipeline(pipeline, deep))
    return Subject(
        pipeline=chosen.name,
        indexed=indexed,
        search=through_library(chosen),
        fetch=fetch,
        candidates=chosen.depth,
        unknown=unknown,
        made_by=by | {"fetch": fetch, "depth": depth},
    )


def on_server(
    server: Server,
    dataset: Dataset,
    pipeline: str | None,
    overrides: Mapping[str, Any],
    *,
    depth: int,
    collection: str | None = None,
) -> Subject:
    """The server's pipeline over its collection, by default of the name that the library would give it.

    The server is asked with its own depth, and with a larger one only where that does not reach, as in the library.
    Raises CollectionNotFound, and InvalidInput where the collection's documents are not the data set's.
    """
    name = collection or dataset.collection
    indexed = _served(server, name)
    known, unknown = _there(server, name, dataset)
    fetch = depth + bool(known & dataset.queries.keys())
    chosen = _reaching(server, name, pipeline, overrides, fetch)
    search = through_server(server, name, chosen)
    return Subject(
        pipeline=pipeline or server.pipelines().search,
        indexed=indexed,
        search=search,
        fetch=fetch,
        candidates=chosen.get("depth"),
        unknown=unknown,
        made_by={
            **served_by(server, name, pipeline or server.pipelines().search, chosen, dataset, fetch),
            "fetch": fetch,
            "depth": depth,
        },
        url=server.url,
    )


def check_served(server: Server, dataset: Dataset, collection: str | None) -> str:
    """The server's collection of the data set, known to be there and to be of this set.

    Raises CollectionNotFound, InvalidInput.
    """
    name = collection or dataset.collection
    server.status(name)
    _there(server, name, dataset)
    return name


def _there(server: Server, name: str, dataset: Dataset) -> tuple[set[str], int]:
    """Documents of the server's collection that matter here, and how many relevant ones it lacks."""
    known = _wanted(dataset).intersection(server.document_ids(name))
    unknown = lacking(name, dataset.qrels, known)
    check_text(server, name, dataset, known)
    return known, unknown


def _served(server: Server, name: str) -> Indexed:
    """The server's collection; what its build took and its size are not known here."""
    status = server.status(name)
    return Indexed(name, status.documents or 0, status.chunks or 0, status.encoder or "", {}, None, True)


def state_of(server: Server, name: str) -> list[Any]:
    """What tells one state of a server's collection from another."""
    status = server.status(name)
    return [status.name, status.version, status.generation, status.documents, status.chunks, status.encoder]


def served_by(
    server: Server, collection: str, pipeline: str, chosen: Mapping[str, Any], dataset: Dataset, k: int
) -> dict[str, Any]:
    """What makes a server's rows, as far as it shows that.

    It keeps its settings for itself, so they are seen by what they do: the scores of the k best for the first document
    of the set, which at least finds itself.
    """
    probe = through_server(server, collection, chosen)(Query(_opening(dataset)), k)
    return {
        "url": server.url,
        "dataset": asked_of(dataset),
        "collection": state_of(server, collection),
        "pipeline": dict(chosen),
        "shown": [one for one in server.pipelines().pipelines if one.get("name") == pipeline],
        "found": [[one.doc_id, one.score] for one in probe.documents],
        "stages": [report.stage for report in probe.reports],
        "code": code(),
    }


def _opening(dataset: Dataset) -> str:
    """How the first document that says anything begins."""
    for document in Beir(dataset.path).documents(lambda skipped: None):
        if text := f"{document.title} {document.text}".strip():
            return text[:OPENING]
    return FIRST.text


def through_server(server: Server, collection: str, pipeline: Mapping[str, Any]) -> Search:
    """Asks the server; the time is that of the request, the connection's way included."""

    def search(query: Query, k: int) -> Found:
        body = {"collection": collection, "query": query.text, "k": k, "pipeline": dict(pipeline)}
        sent, seconds = server.post("/v1/search", body, SentSearch)
        documents = best_of((result.document_id, result.raw_score) for result in sent.results)
        return Found(documents, seconds, sent.trace.reports())

    return search


def _reaching(
    server: Server, collection: str, pipeline: str | None, overrides: Mapping[str, Any], fetch: int
) -> dict[str, Any]:
    """The pipeline as a request names it, with a depth of ``fetch`` where its own is less."""
    chosen = ({} if pipeline is None else {"name": pipeline}) | dict(overrides)
    if "depth" in overrides:
        return chosen
    try:
        through_server(server, collection, chosen)(FIRST, fetch)
    except InvalidInput as error:
        if "above this pipeline's depth" not in str(error):
            raise
        return {**chosen, "depth": fetch}
    return chosen


def _wanted(dataset: Dataset) -> set[str]:
    """Ids that have to be looked up: relevant documents, and queries that may be documents themselves."""
    return relevant(dataset.qrels) | dataset.queries.keys()


def relevant(qrels: Qrels) -> set[str]:
    """All documents that are relevant to some query."""
    return {doc_id for grades in qrels.values() for doc_id, grade in grades.items() if grade > 0}


def lacking(collection: str, qrels: Qrels, known: set[str]) -> int:
    """How many relevant documents the collection lacks, so that no pipeline could find them.

    Raises InvalidInput where it has none of them: then it is another set's collection.
    """
    wanted = relevant(qrels)
    missing = wanted - known
    if wanted and missing == wanted:
        raise InvalidInput(
            f"none of the {len(wanted)} relevant documents is in the collection {collection!r}, for example "
            f"{min(wanted)!r}; do collection and judgements belong to the same set?"
        )
    return len(missing)


def check_text(server: Server, collection: str, dataset: Dataset, known: set[str]) -> None:
    """Raises InvalidInput where a relevant document reads otherwise there: ids alone may be those of another set."""
    there = relevant(dataset.qrels) & known
    for document in Beir(dataset.path).documents(lambda skipped: None):
        if document.id in there:
            sent = server.document(collection, document.id)
            if (sent.title, sent.text) != (document.title, document.text):
                raise InvalidInput(
                    f"document {document.id!r} of {collection!r} at {server.url} reads {sent.text[:60]!r}, in "
                    f"{dataset.path} {document.text[:60]!r}; name the collection that was made from this set"
                )
            return
