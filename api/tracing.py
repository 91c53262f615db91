"""Traces for OpenTelemetry: a span a request, below it one a stage, under the names that traces in responses have.

It is the extra ``tracing``. The standard variables OTEL_* say where spans go and how many are kept. A request's own
``traceparent`` (W3C Trace Context) is continued. Spans hold no question, no answer and no text of a document.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from api.account import Account
from rag.errors import InvalidConfig
from rag.values import StageReport

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer
    from opentelemetry.util.types import AttributeValue

_FLUSH_MS = 5000


class Tracing:
    """Makes spans of requests that are over.

    Stages say how long they took, not when: their spans stand one after the other from the request's start on.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider

        ours = Resource({"service.name": "kvasir", "service.version": version("kvasir")})
        self._provider = TracerProvider(resource=Resource.create().merge(ours).merge(OTELResourceDetector().detect()))
        self._provider.add_span_processor(processor)
        self._tracer: Tracer = self._provider.get_tracer("kvasir")

    @classmethod
    def by_environment(cls) -> Tracing:
        """Spans go by OTLP over HTTP to where OTEL_EXPORTER_OTLP_ENDPOINT says. Raises InvalidConfig."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise InvalidConfig(
                f"server.tracing = true, and {error.name} is not installed; run: pip install 'kvasir[tracing]'"
            ) from error
        return cls(BatchSpanProcessor(OTLPSpanExporter()))

    def read(self, account: Account) -> None:
        """Spans of one request."""
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        from opentelemetry.trace.status import Status, StatusCode

        ended = time.time_ns()
        begun = ended - _nanoseconds(account.seconds)
        above = TraceContextTextMapPropagator().extract({"traceparent": account.traceparent})
        span = self._tracer.start_span(
            f"{account.method} {account.route}",
            context=above,
            kind=SpanKind.SERVER,
            attributes=_of_request(account),
            start_time=begun,
        )
        if account.status >= 500:
            span.set_status(Status(StatusCode.ERROR, account.error))
        if span.is_recording():
            self._stages(account, set_span_in_context(span), begun)
        span.end(ended)

    def _stages(self, account: Account, above: object, begun: int) -> None:
        for report in account.reports:
            ended = begun + _nanoseconds(report.seconds)
            stage = self._tracer.start_span(
                report.stage,
                context=above,  # type: ignore[arg-type]
                attributes=_of_stage(report),
                start_time=begun,
            )
            stage.end(ended)
            begun = ended

    def close(self) -> None:
        """Send what is left; gives up after seconds where nobody takes it."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()


def _of_request(account: Account) -> dict[str, AttributeValue]:
    given: dict[str, AttributeValue] = {
        "http.request.method": account.method,
        "http.route": account.route,
        "http.response.status_code": account.status,
        "kvasir.request_id": account.request_id,
        "kvasir.collection": account.collection,
        "kvasir.pipeline": account.pipeline,
        "error.type": account.error,
    }
    return {name: value for name, value in given.items() if value != ""}


def _of_stage(report: StageReport) -> dict[str, AttributeValue]:
    given: dict[str, AttributeValue | None] = {
        "kvasir.n_in": report.n_in,
        "kvasir.n_out": report.n_out,
        "kvasir.tokens": report.tokens,
        "kvasir.tokens_decoded": report.decoded or None,
        "kvasir.passes": report.passes or None,
        "kvasir.cache_mode": report.cache_mode or None,
        "kvasir.tokens_reused": report.reused if report.cache_mode else None,
        "kvasir.degraded": bool(report.degraded) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
