"""GET /v1/models: what can be named as a model."""

from __future__ import annotations

from litestar import get
from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from api.access import READ
from api.dialects.model_names import models
from api.dialects.openai_schemas import Model, ModelList
from api.errors import ModelNotFound
from api.openapi import documented
from api.service import Call, Connection, reading
from rag.tables import nearest


@get(
    "/v1/models",
    opt=READ,
    summary="List the models",
    description="Rerankers for `/v1/rerank`, the encoder for `/v1/embeddings`, and for `/v1/chat/completions` every "
    "collection as `kvasir/COLLECTION` or `kvasir/COLLECTION/PIPELINE`.",
    operation_class=documented(None, {}, {200: (ModelList,)}, errors=(429, 500, 503)),
)
async def list_models(request: Connection) -> ASGIResponse:
    return await reading(request, lambda call: ModelList(data=list(models(call.engine))))


@get(
    "/v1/models/{model_id:path}",
    opt=READ,
    summary="One model",
    description="The model of that name.",
    operation_class=documented(None, {}, {200: (Model,)}, errors=(404, 429, 500, 503)),
)
async def read_model(request: Connection, model_id: FromPath[str]) -> ASGIResponse:
    return await reading(request, lambda call: _named(call, model_id.strip("/")))


def _named(call: Call, name: str) -> Model:
    known = {model.id: model for model in models(call.engine)}
    if name not in known:
        raise ModelNotFound(f"no model {name[:120]!r}{nearest(name, list(known)[:50])}")
    return known[name]
