"""GET /metrics: counters of the requests and the state of the process, as Prometheus reads them."""

from __future__ import annotations

import os

from litestar import get
from litestar.response.base import ASGIResponse
from litestar.types import Scope
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from api.access import METRICS
from api.metrics import RequestMetrics
from api.metrics_state import ServerState
from api.openapi import plain
from api.processes import SHARED_METRICS
from api.service import Connection, Service, service_of


@get(
    "/metrics",
    opt=METRICS,
    summary="Metrics",
    description="For Prometheus: requests, stages and tokens of all processes of the server; queues, collections and "
    "memory of the one that answers.",
    operation_class=plain("text/plain"),
)
async def metrics(request: Connection) -> ASGIResponse:
    service = service_of(request)
    registry = _shown(service, request.app.state.registry)
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


def _shown(service: Service, own: CollectorRegistry) -> CollectorRegistry:
    """The application's own registry; where several processes share their counts, these and this process's state."""
    if SHARED_METRICS not in os.environ:
        return own
    whole = CollectorRegistry()
    MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
    whole.register(ServerState(service))
    ProcessCollector(registry=whole)
    return whole


def _accepted(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
