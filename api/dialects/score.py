"""POST /score and /v1/score, as vLLM's clients ask: how relevant texts are, in the order of the request."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from litestar import post
from litestar.response.base import ASGIResponse

from api.access import READ
from api.bodies import decode
from api.dialects.answering import answering
from api.dialects.openai_schemas import Score, ScoreRequest, ScoreResponse
from api.dialects.ordering import Ordered, order
from api.errors import InvalidBody
from api.openapi import documented
from api.rerank_schemas import ReadTokens, RerankRequest
from api.service import Call, Connection
from rag.reranking.given import place_of
from rag.values import ScoreKind

_READER = msgspec.json.Decoder(ScoreRequest, strict=False)

EXAMPLES = {
    "One question": {"text_1": "what pumps blood?", "text_2": ["Plants make sugar.", "The heart pumps blood."]},
    "Pairs": {"queries": ["what pumps blood?", "what makes sugar?"], "documents": ["The heart.", "A plant."]},
}


@post(
    ["/score", "/v1/score"],
    status_code=200,
    opt=READ,
    summary="Score texts against a text",
    description="How relevant each text is to one, or each to its own where there are as many of both. Rerankers that "
    "only order give the place in the order, and score no pairs.",
    operation_class=documented(ScoreRequest, EXAMPLES, {200: (ScoreResponse,)}),
)
async def score(request: Connection) -> ASGIResponse:
    return await answering(request, _scored)


def _scored(call: Call) -> ScoreResponse:
    asked = decode(_READER, call.body)
    queries, documents = _sides(asked)
    if len(queries) == 1:
        groups = [order(call, _one(asked, queries[0], documents))]
    else:
        groups = list(_pairs(call, asked, queries, documents))
    read = sum(one.ranking.report.tokens + one.ranking.report.reused for one in groups)
    scores = [pair for one in groups for pair in _by_place(one)]
    return ScoreResponse(
        id=call.request_id,
        created=int(time.time()),
        model=groups[0].name,
        score_kind=groups[0].ranking.kind.value,
        data=[Score(index=index, score=score, raw_score=raw) for index, (score, raw) in enumerate(scores)],
        usage=ReadTokens(read, read),
    )


def _sides(asked: ScoreRequest) -> tuple[list[str], list[str]]:
    """Both sides as lists. Raises InvalidBody where one is missing, or their lengths do not fit."""
    left = asked.text_1 if asked.queries is None else asked.queries
    right = asked.text_2 if asked.documents is None else asked.documents
    if left is None or right is None:
        raise InvalidBody("send text_1 and text_2, or queries and documents", "text_1" if left is None else "text_2")
    queries = [left] if isinstance(left, str) else left
    documents = [right] if isinstance(right, str) else right
    if not queries or not documents or len(queries) not in (1, len(documents)):
        raise InvalidBody(
            f"{len(queries)} texts and {len(documents)} to score against them; send one and any number, or as many",
            "text_1",
        )
    return queries, documents


def _one(asked: ScoreRequest, query: str, documents: list[str]) -> RerankRequest:
    return RerankRequest(query=query, documents=list(documents), model=asked.model)


def _pairs(call: Call, asked: ScoreRequest, queries: list[str], documents: list[str]) -> Iterator[Ordered]:
    most = call.engine.settings.server.max_rerank_documents
    if len(queries) > most:
        raise InvalidBody(f"{len(queries)} pairs; the limit is {most} (server.max_rerank_documents)", "text_1")
    for query, document in zip(queries, documents, strict=True):
        found = order(call, _one(asked, query, [document]))
        if found.ranking.kind in (ScoreKind.RANK, ScoreKind.WINS):
            raise InvalidBody(f"{found.name!r} orders texts and cannot score pairs; name another reranker", "model")
        yield found


def _by_place(ordered: Ordered) -> list[tuple[float, float]]:
    """(relevance, raw score) of each document, in the order of the request."""
    found = {place_of(hit): (ordered.ranking.relevance(hit), hit.score) for hit in ordered.ranking}
    return [found[place] for place in range(len(found))]
