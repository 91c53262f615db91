"""The Litestar application: routes, one exception handler, one hook. Nothing else stands in a request's way."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from api.answer import answer
from api.collections import collection_status, create_collection, drop_collection, list_collections
from api.dialects.anserini import anserini_document, anserini_search
from api.dialects.chat import chat
from api.dialects.embeddings import embed, embeddings
from api.dialects.info import info
from api.dialects.models import list_models, read_model
from api.dialects.score import score
from api.documents import add, delete_hidden, delete_many, delete_one, list_documents, read, read_hidden
from api.errors import answer_error
from api.guard_headers import send_protection
from api.guarded import Guarded
from api.health import alive, ready
from api.jobs.routes import ROUTES as JOB_ROUTES
from api.logs import RequestLog
from api.mcp.http import close_mcp, mcp
from api.metrics_route import metrics, registry_of
from api.observed import Observed
from api.openapi import openapi_config
from api.pipelines import list_pipelines
from api.playground.routes import asset, page
from api.request_id import send_request_id
from api.rerank import rerank, rerank_v2
from api.search import search
from api.service import Service
from api.tracing import Tracing
from rag.assemble import Engine

ROUTES = (
    search,
    answer,
    rerank,
    rerank_v2,
    score,
    info,
    embeddings,
    embed,
    list_models,
    read_model,
    chat,
    anserini_search,
    anserini_document,
    list_collections,
    create_collection,
    collection_status,
    drop_collection,
    add,
    list_documents,
    read,
    read_hidden,
    delete_one,
    delete_hidden,
    delete_many,
    *JOB_ROUTES,
    alive,
    ready,
    metrics,
    list_pipelines,
    page,
    asset,
    mcp,
)


def create_app(engine: Engine) -> Observed:
    """The application over one engine; its threads live from start-up to shutdown."""
    service = Service(engine)
    registry = registry_of(service)
    return Observed(
        route_handlers=list(ROUTES),
        state=State({"service": service, "registry": registry}, deep_copy=False),
        on_startup=[service.start],
        on_shutdown=[close_mcp, service.close, *_told(service)],
        exception_handlers={HTTPException: answer_error, Exception: answer_error},
        before_send=[send_request_id, send_protection],
        middleware=[Guarded()],
        cors_config=_cors(engine.settings.server.origins),
        request_max_body_size=engine.settings.server.max_body_mb * 2**20,
        openapi_config=openapi_config(version("kvasir")),
        logging_config=None,
    )


def _told(service: Service) -> list[Callable[[], None]]:
    """Has accounts read by the log and by tracing, where the settings want them; what is to be closed at the end."""
    chosen, readers = service.engine.settings.server, service.accounts.readers
    if chosen.log != "off":
        readers.append(RequestLog(queries=chosen.log_queries).read)
    if not chosen.tracing:
        return []
    tracing = Tracing.by_environment()
    readers.append(tracing.read)
    return [tracing.close]


def _cors(origins: tuple[str, ...]) -> CORSConfig | None:
    """Pages of these origins may call the server; without any, no page of another origin may."""
    if not origins:
        return None
    shown = ["X-Request-ID", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]
    return CORSConfig(allow_origins=list(origins), expose_headers=shown)
