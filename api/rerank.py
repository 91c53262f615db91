"""POST /rerank, /v1/rerank, /v2/rerank: passages of the request in the order of their relevance; needs no collection.

Which server's form a body has is seen from its fields, not from the path.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable

import msgspec
from litestar import post
from litestar.response.base import ASGIResponse
from litestar.types import Scope

from api.access import READ
from api.bodies import decode
from api.dialects.answering import answering
from api.dialects.failures import HANDLERS, TEI_ERRORS, NothingGiven, speak_tei
from api.dialects.ordering import order
from api.dialects.rerank_answers import as_object, as_tei
from api.dialects.tei_schemas import TeiError, TeiRank
from api.errors import InvalidBody
from api.openapi import documented
from api.rerank_schemas import RerankRequest, RerankResponse
from api.service import Call, Connection

_READER = msgspec.json.Decoder(RerankRequest, strict=False)
_NAMES = msgspec.json.Decoder(dict[str, msgspec.Raw])

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
    "As Cohere's clients ask": {
        "query": "what pumps blood?",
        "documents": [{"heading": "Heart", "body": "It pumps blood."}, {"heading": "Leaf", "body": "It makes sugar."}],
        "rank_fields": ["heading", "body"],
        "max_tokens_per_doc": 512,
        "top_n": 10,
    },
    "As Voyage's clients ask": {
        "query": "what pumps blood?",
        "documents": ["Plants make sugar.", "The heart pumps blood."],
        "top_k": 1,
    },
}
TEI_EXAMPLE = {
    "As TEI's clients ask": {
        "query": "what pumps blood?",
        "texts": ["Plants make sugar.", "The heart pumps blood."],
        "return_text": True,
        "truncation_direction": "Right",
    },
}


@post(
    ["/rerank", "/v1/rerank"],
    status_code=200,
    opt=READ,
    summary="Order passages by their relevance to a query",
    description="The passages of the request, best first, by one of the server's rerankers. At a limit the best order "
    "so far is the result. The work stops where the client leaves. `documents` are answered as Cohere, Jina, vLLM, "
    "Infinity and Voyage (`top_k`) do, all in one; `texts` as TEI does, with an array and TEI's errors. Under "
    "`/rerank` the passages are given back unless `return_documents` is false.",
    operation_class=documented(
        RerankRequest,
        EXAMPLES | TEI_EXAMPLE,
        {200: (RerankResponse, list[TeiRank])},
        errors=TEI_ERRORS,
        failure=TeiError,
    ),
    exception_handlers=HANDLERS,
)
async def rerank(request: Connection) -> ASGIResponse:
    return await _ordered(request)


@post(
    "/v2/rerank",
    status_code=200,
    opt=READ,
    summary="Order passages, for Cohere's clients",
    description="As `/v1/rerank`; there are no `texts`.",
    operation_class=documented(RerankRequest, EXAMPLES, {200: (RerankResponse,)}),
)
async def rerank_v2(request: Connection) -> ASGIResponse:
    return await _ordered(request)


async def _ordered(request: Connection) -> ASGIResponse:
    return await answering(request, lambda call: reranked(call, request.scope))


def reranked(call: Call, scope: Scope) -> RerankResponse | list[TeiRank]:
    """The whole of a request, on a worker thread."""
    started = time.perf_counter()
    asked, warnings = asked_for(call.body, scope)
    ordered = order(call, asked)
    if asked.documents is None:
        return as_tei(ordered)
    return as_object(ordered, call.request_id, "1" if scope["path"].startswith("/v1/") else "2", started, warnings)


def asked_for(body: bytes, scope: Scope) -> tuple[RerankRequest, list[str]]:
    """The request, and fields of it that are perhaps misspelt. Errors are TEI's from here on if it has ``texts``."""
    names = decode(_NAMES, body)
    if "texts" in names and "documents" not in names and scope["path"] != "/v2/rerank":
        speak_tei(scope)
    asked = decode(_READER, body)
    if scope["path"] == "/v2/rerank" and asked.texts is not None:
        raise InvalidBody("texts are for /rerank and /v1/rerank; send documents", "texts")
    if (asked.texts is None) == (asked.documents is None):
        raise InvalidBody("send the passages as documents, or for TEI's answer as texts, not both", "documents")
    if asked.texts is not None and not asked.texts:
        raise NothingGiven("texts is empty; send at least one")
    if scope["path"] == "/rerank" and "return_documents" not in names:
        asked.return_documents = True
    return asked, _misspelt(names)


def _misspelt(names: Iterable[str]) -> list[str]:
    known = RerankRequest.__struct_fields__
    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.8) for name in names if name not in known}
    return [f"unknown field {name[:40]!r} was ignored; did you mean {one[0]!r}?" for name, one in near.items() if one]
