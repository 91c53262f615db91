"""GET /metrics: counters of the requests and the state of the process, as Prometheus reads them."""

from __future__ import annotations

from litestar import get
from litestar.response.base import ASGIResponse
from litestar.types import Scope
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from api.access import METRICS
from api.metrics import RequestMetrics
from api.metrics_state import ServerState
from api.openapi import plain
from api.service import Connection, Service, service_of


@get(
    "/metrics",
    opt=METRICS,
    summary="Metrics",
    description="For Prometheus: requests, stages, tokens, queues, collections and memory of this process. "
    "Each process of a server counts by itself: scrape all of them, and sum.",
    operation_class=plain("text/plain"),
)
async def metrics(request: Connection) -> ASGIResponse:
    service = service_of(request)
    registry: CollectorRegistry = request.app.state.registry
    encode, media_type = choose_encoder(_accepted(request.scope))
    body = await service.scraper.run(lambda: encode(registry))
    return ASGIResponse(body=body, headers={"content-type": media_type})


def registry_of(service: Service) -> CollectorRegistry:
    """A registry that counts the service's requests from now on."""
    registry = CollectorRegistry()
    counted = RequestMetrics(registry, service.engine.settings.pipelines)
    registry.register(ServerState(service))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    service.accounts.readers.append(counted.read)
    return registry


def _accepted(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
