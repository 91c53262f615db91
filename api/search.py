"""POST /v1/search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from litestar import post
from litestar.response.base import ASGIResponse

from api.access import READ
from api.bodies import decode, decoder
from api.dialects.answering import answering
from api.explain import results, trace
from api.openapi import documented
from api.schemas import PipelineChoice, SearchRequest, SearchResponse, SearchResponses
from api.service import Call, Connection
from indexes.filters import parse_filter
from rag.assemble import Engine
from rag.errors import InvalidConfig
from rag.pipeline import Pipeline
from rag.pipeline import trace as reports_of
from rag.values import Query, Ranking

_READER = decoder(SearchRequest)

EXAMPLES = {
    "One question": {"collection": "demo", "query": "how do plants make sugar?", "k": 3},
    "Several questions": {"collection": "demo", "query": ["photosynthesis", "heart"], "pipeline": "bm25"},
    "Filter, override, explain": {
        "collection": "demo",
        "query": "light",
        "filter": {"year": {"gte": 2000}},
        "pipeline": {"name": "hybrid", "fuse": "rrf", "depth": 50},
        "explain": True,
    },
}


@post(
    "/v1/search",
    status_code=200,
    opt=READ,
    summary="Find the best chunks",
    description="The best chunks of a collection for one question, or for up to 100 of them in order. The "
    "work stops where the client leaves.",
    operation_class=documented(SearchRequest, EXAMPLES, {200: (SearchResponse, SearchResponses)}),
)
async def search(request: Connection) -> ASGIResponse:
    return await answering(request, searched)


def searched(call: Call) -> SearchResponse | SearchResponses:
    """The whole of a search, on a worker thread."""
    started = time.perf_counter()
    asked = decode(_READER, call.body)
    pipeline = chosen_pipeline(call.engine, asked.collection, asked.pipeline, None)
    chosen = None if asked.filter is None else parse_filter(asked.filter)
    collection = call.engine.collection(asked.collection)

    def response(ranking: Ranking, start: float) -> SearchResponse:
        snapshot = collection.latest()  # the search has just looked whether it is the newest
        found = results(ranking, asked.explain)
        seconds = time.perf_counter() - start
        reports = reports_of(ranking)
        call.account.ran(reports, snapshot.place.name, pipeline.name)
        return SearchResponse(found, trace(call.request_id, snapshot, pipeline.name, reports, seconds))

    call.account.query = asked.query if isinstance(asked.query, str) else "\n".join(asked.query)
    if isinstance(asked.query, str):
        return response(pipeline.search(Query(asked.query, filter=chosen), asked.k), started)
    queries = [Query(text, filter=chosen) for text in asked.query]
    return SearchResponses([response(ranking, started) for ranking in pipeline.search_many(queries, asked.k)])


def chosen_pipeline(engine: Engine, collection: str, wanted: PipelineChoice | None, default: str | None) -> Pipeline:
    """The pipeline a request asks for. Raises PipelineNotFound, InvalidConfig, CollectionNotFound."""
    if wanted is None or isinstance(wanted, str):
        return engine.pipeline(collection, default if wanted is None else wanted)
    overrides = dict(wanted)
    name = overrides.pop("name", default)
    if name is not None and not isinstance(name, str):
        raise InvalidConfig(f"pipeline.name = {name!r}; it takes the name of a pipeline")
    _check_overrides(engine, overrides)
    return engine.pipeline(collection, name, overrides)


def _check_overrides(engine: Engine, overrides: dict[str, Any]) -> None:
    """What a settings file may hold, but a stranger's request may not."""
    model = overrides.get("rerank_model")
    configured = {pipeline.rerank_model for pipeline in engine.settings.pipelines.values()}
    if model is not None and model not in configured:
        raise InvalidConfig(
            f"rerank_model = {model!r} belongs to no configured pipeline; a request cannot have a model loaded, "
            "name it in a [pipeline.NAME] of the server's settings"
        )
    for key, value in overrides.items():
        for number in value if isinstance(value, Sequence) else (value,):
            if isinstance(number, int) and abs(number) >= 2**63:
                raise InvalidConfig(f"pipeline.{key} is a whole number of more than 64 bits")
