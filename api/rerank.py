"""POST /v1/rerank: passages of the request in the order of their relevance; needs no collection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec
from litestar import post
from litestar.response.base import ASGIResponse
from msgspec import UNSET

from api.bodies import decode, decoder
from api.errors import InvalidBody
from api.explain import milliseconds
from api.openapi import documented
from api.rerank_schemas import (
    RerankedDocument,
    RerankRequest,
    RerankResponse,
    RerankResult,
    RerankTrace,
    TokenScore,
)
from api.service import JSON, Call, Connection, call_of, service_of
from api.waiting import while_connected
from rag.assemble import Engine
from rag.config import ServerConfig
from rag.errors import InvalidConfig
from rag.pipeline import check_query
from rag.protocols import Reranker
from rag.reranking.attention import AttentionReranker
from rag.reranking.given import Passage, as_given, place_of
from rag.reranking.mixed import MixedReranker
from rag.runtime.meter import Limits
from rag.values import Query, Ranking

_READER = decoder(RerankRequest)

EXAMPLES = {
    "Three passages": {
        "model": "sentences",
        "query": "what pumps blood?",
        "documents": [
            "Plants make sugar.",
            "The heart pumps blood.",
            {"id": "sea", "title": "Tides", "text": "Water."},
        ],
        "top_n": 2,
        "return_documents": True,
    },
    "By attention, within limits": {
        "model": "icr",
        "query": "what pumps blood?",
        "documents": ["Plants make sugar.", "The heart pumps blood."],
        "deadline_ms": 5000,
        "max_prefill_tokens": 20000,
        "explain_tokens": True,
    },
}

Tokens = dict[int, list[TokenScore]]


@post(
    "/v1/rerank",
    status_code=200,
    summary="Order passages by their relevance to a query",
    description="The passages of the request, best first, by one of the server's rerankers. At a limit the best order "
    "so far is the result. The work stops where the client leaves.",
    operation_class=documented(RerankRequest, EXAMPLES, {200: (RerankResponse,)}),
)
async def rerank(request: Connection) -> ASGIResponse:
    service = service_of(request)
    call = call_of(request, await request.body())
    encoded = await while_connected(request, service.workers, lambda: msgspec.json.encode(reranked(call)))
    return ASGIResponse(body=encoded, media_type=JSON)


def reranked(call: Call) -> RerankResponse:
    """The whole of a request, on a worker thread."""
    started = time.perf_counter()
    asked = decode(_READER, call.body)
    query = Query(asked.query)
    check_query(query, call.engine.settings.max_query_chars)
    passages = _passages(asked, call.engine.settings.server)
    chosen = _reranker(call.engine, asked)
    call.account.query = asked.query
    ranking = chosen.rerank(query, as_given(passages))
    call.account.ran([ranking.report])
    tokens, notes = _explained(chosen, query, ranking, asked.explain_tokens)
    return RerankResponse(
        asked.model,
        _results(ranking, asked, tokens)[: asked.top_n],
        _trace(call.request_id, ranking, notes, time.perf_counter() - started),
    )


def _passages(asked: RerankRequest, bounds: ServerConfig) -> list[Passage]:
    """Raises InvalidBody for too many, or too long ones in all."""
    if len(asked.documents) > bounds.max_rerank_documents:
        raise InvalidBody(
            f"{len(asked.documents)} documents; the limit is {bounds.max_rerank_documents} "
            "(server.max_rerank_documents), rerank the best of them",
            "documents",
        )
    passages = [Passage(one) if isinstance(one, str) else Passage(one.text, one.title) for one in asked.documents]
    characters = sum(len(passage.text) + len(passage.title) for passage in passages)
    if characters > bounds.max_rerank_chars:
        raise InvalidBody(
            f"the documents have {characters} characters; the limit is {bounds.max_rerank_chars} in all "
            "(server.max_rerank_chars), send passages of them",
            "documents",
        )
    return passages


def _reranker(engine: Engine, asked: RerankRequest) -> Reranker:
    limits = Limits(asked.deadline_ms, asked.max_prefill_tokens)
    try:
        chosen = engine.reranker(asked.model, depth=max(1, len(asked.documents)), limits=limits)
    except InvalidConfig as error:
        raise InvalidBody(str(error), "model") from error
    if asked.explain_tokens and not isinstance(_inner(chosen), AttentionReranker):
        raise InvalidBody(f"explain_tokens is for rerankers of kind icr; {asked.model!r} is another", "explain_tokens")
    return chosen


def _explained(chosen: Reranker, query: Query, ranking: Ranking, wanted: bool) -> tuple[Tokens, list[str]]:
    """Tokens by passage, and a note where the request's limits left no room for all of them."""
    chosen = _inner(chosen)
    if not wanted or not isinstance(chosen, AttentionReranker):
        return {}, []
    given = ranking.inputs[0]
    found = replace(chosen, limits=_left(chosen.limits, ranking)).contributions(query, given)
    tokens = {
        int(one.chunk_id): [TokenScore(*pair) for pair in zip(one.tokens, one.values, strict=True)] for one in found
    }
    readable = sum(bool(hit.chunk.content.strip()) for hit in given)
    return tokens, [f"tokens of {len(tokens)} of {readable} passages are explained"] if len(tokens) < readable else []


def _inner(chosen: Reranker) -> Reranker:
    """The reranker without the first stage's share."""
    return chosen.inner if isinstance(chosen, MixedReranker) else chosen


def _left(limits: Limits, ranking: Ranking) -> Limits:
    """What the ranking left of the request's limits; 0 would be none."""
    deadline = limits.deadline_ms and max(1e-3, limits.deadline_ms - 1e3 * ranking.report.seconds)
    return Limits(deadline, limits.max_prefill_tokens and max(1, limits.max_prefill_tokens - ranking.report.tokens))


def _results(ranking: Ranking, asked: RerankRequest, tokens: Tokens) -> list[RerankResult]:
    found = []
    for hit in ranking:
        place = place_of(hit)
        document = asked.documents[place]
        found.append(
            RerankResult(
                index=place,
                id=UNSET if isinstance(document, str) else document.id,
                score=ranking.relevance(hit),
                raw_score=hit.score,
                kind=ranking.kind.value,
                document=RerankedDocument(hit.chunk.text, hit.chunk.title) if asked.return_documents else UNSET,
                tokens=tokens.get(place, UNSET),
            )
        )
    return found


def _trace(name: str, ranking: Ranking, notes: Sequence[str], seconds: float) -> RerankTrace:
    report = ranking.report
    return RerankTrace(
        request_id=name,
        stage=report.stage,
        time_ms=milliseconds(report.seconds),
        n_in=report.n_in or 0,
        n_out=report.n_out,
        tokens=report.tokens,
        passes=report.passes,
        decoded=report.decoded,
        peak_mb=report.peak_mb,
        degraded=report.degraded,
        notes=[*report.notes, *notes],
        cache_mode=report.cache_mode or UNSET,
        reused=report.reused if report.cache_mode else UNSET,
        recomputed=report.recomputed if report.cache_mode else UNSET,
        total_time_ms=milliseconds(seconds),
    )
