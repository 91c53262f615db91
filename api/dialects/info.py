"""GET /info: what TEI's clients ask before their first request."""

from __future__ import annotations

from importlib.metadata import version

import msgspec
from litestar import get
from litestar.response.base import ASGIResponse

from api.access import READ
from api.dialects.tei_schemas import TeiInfo, TeiLabels, TeiModelType
from api.openapi import documented
from api.service import JSON, Connection, service_of
from rag.config import Settings

_PASSAGE_TOKENS = {"icr": 512, "sentences": 512, "cross-encoder": 512}
"""Tokens of a text that are read where the settings do not say it; 128 by the other kinds."""


@get(
    "/info",
    opt=READ,
    summary="The default reranker, for TEI's clients",
    description="Which reranker answers a request that names none, and the limits of a request.",
    operation_class=documented(None, {}, {200: (TeiInfo,)}, errors=(500,)),
)
async def info(request: Connection) -> ASGIResponse:
    return ASGIResponse(body=msgspec.json.encode(described(service_of(request).engine.settings)), media_type=JSON)


def described(settings: Settings) -> TeiInfo:
    name, server = settings.dialects.reranker, settings.server
    chosen = settings.rerankers[name]
    return TeiInfo(
        model_id=chosen.model or name,
        model_sha=None,
        model_dtype=settings.model.dtype if chosen.reads else settings.encoder.dtype,
        served_model_name=name,
        model_type=TeiModelType(TeiLabels({"0": "LABEL_0"}, {"LABEL_0": 0})),
        max_concurrent_requests=server.threads + server.queue,
        max_input_length=chosen.passage_tokens or _PASSAGE_TOKENS.get(chosen.kind, 128),
        max_batch_tokens=server.max_rerank_chars,
        max_client_batch_size=server.max_rerank_documents,
        auto_truncate=True,
        tokenization_workers=server.threads,
        version=version("kvasir"),
    )
