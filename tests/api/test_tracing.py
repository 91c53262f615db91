"""Spans of requests: seen by the SDK's own exporter in memory, and by a receiver of OTLP over HTTP."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.status import StatusCode

from api.account import Account
from api.tracing import Tracing
from rag.errors import InvalidConfig
from rag.values import StageReport
from tests.api.conftest import MakeEngine, Serving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REPORTS = [
    StageReport("bm25", 0.010, None, 50),
    StageReport("rerank", 0.030, 50, 10, tokens=99, cache_mode="link-16", reused=7, degraded="deadline"),
]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def spans_of(account: Account, exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    tracing = Tracing(SimpleSpanProcessor(exporter))
    tracing.read(account)
    tracing.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def account(status: int = 200, traceparent: str = "", error: str = "") -> Account:
    return Account(
        seconds=0.05,
        method="POST",
        route="/v1/search",
        request_id="mine",
        status=status,
        error=error,
        pipeline="careful",
        traceparent=traceparent,
        query="a secret question",
        reports=REPORTS,
    )


def test_a_span_a_stage_below_the_request_s(exporter: InMemorySpanExporter) -> None:
    found = spans_of(account(), exporter)
    assert set(found) == {"POST /v1/search", "bm25", "rerank"}
    whole, first, second = found["POST /v1/search"], found["bm25"], found["rerank"]
    assert whole.parent is None
    assert first.parent == second.parent == whole.context
    assert whole.end_time - whole.start_time == 50_000_000  # type: ignore[operator]
    assert first.start_time == whole.start_time
    assert second.start_time == first.end_time == first.start_time + 10_000_000  # type: ignore[operator]
    assert second.end_time == second.start_time + 30_000_000


def test_attributes_are_those_of_the_trace_and_hold_no_question(exporter: InMemorySpanExporter) -> None:
    found = spans_of(account(), exporter)
    assert dict(found["rerank"].attributes or {}) == {
        "kvasir.n_in": 50,
        "kvasir.n_out": 10,
        "kvasir.tokens": 99,
        "kvasir.cache_mode": "link-16",
        "kvasir.tokens_reused": 7,
        "kvasir.degraded": True,
    }
    assert dict(found["bm25"].attributes or {}) == {"kvasir.n_out": 50, "kvasir.tokens": 0}
    assert (found["POST /v1/search"].attributes or {})["kvasir.pipeline"] == "careful"
    assert not any("secret" in span.to_json() for span in found.values())


def test_the_caller_s_trace_goes_on(exporter: InMemorySpanExporter) -> None:
    whole = spans_of(account(traceparent=f"00-{TRACE}-{PARENT}-01"), exporter)["POST /v1/search"]
    assert whole.parent is not None
    assert f"{whole.parent.span_id:016x}" == PARENT
    assert f"{whole.get_span_context().trace_id:032x}" == TRACE  # type: ignore[union-attr]


@pytest.mark.parametrize("given", ["", "00-xyz", f"00-{'0' * 32}-{PARENT}-01", "\x00" * 60])
def test_a_header_that_is_none_begins_a_trace(exporter: InMemorySpanExporter, given: str) -> None:
    assert spans_of(account(traceparent=given), exporter)["POST /v1/search"].parent is None


def test_a_trace_that_its_caller_does_not_keep_is_not_kept(exporter: InMemorySpanExporter) -> None:
    assert spans_of(account(traceparent=f"00-{TRACE}-{PARENT}-00"), exporter) == {}


def test_a_failure_of_the_server_is_an_error_and_a_caller_s_is_none(exporter: InMemorySpanExporter) -> None:
    failed = spans_of(account(503, error="collection_damaged"), exporter)["POST /v1/search"]
    assert failed.status.status_code is StatusCode.ERROR
    exporter.clear()
    refused = spans_of(account(422, error="invalid_query"), InMemorySpanExporter())
    assert all(span.status.status_code is StatusCode.UNSET for span in refused.values())


@contextmanager
def receiver() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """An OTLP receiver on a free loopback port, and what it was sent."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            received.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", received
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def test_a_server_sends_its_spans_where_the_environment_says(
    make_engine: MakeEngine, built_home: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as (url, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "named-outside")
        with serving(make_engine(built_home, server={"tracing": True})) as running:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            asked = {"collection": "demo", "query": "heart"}
            stages = httpx.post(f"{running.url}/v1/search", json=asked, headers=headers).json()["trace"]["stages"]
            httpx.post(f"{running.url}/v1/answer", json={"collection": "demo", "question": "heart?"}, headers=headers)
    [resource] = [one for request in received for one in request.resource_spans][:1]
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert named["service.name"] == "named-outside"
    spans = [span for request in received for one in request.resource_spans for part in one.scope_spans
             for span in part.spans]  # fmt: skip
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert under(spans, "POST /v1/search") == [stage["stage"] for stage in stages] == ["bm25", "dense", "fusion"]
    assert under(spans, "POST /v1/answer") == ["bm25", "dense", "fusion", "rerank", "select", "generate"]


def under(spans: list[Span], name: str) -> list[str]:
    """Names of the spans below the one of that name, in order of time."""
    [above] = [span for span in spans if span.name == name]
    below = [span for span in spans if span.parent_span_id == above.span_id]
    return [span.name for span in sorted(below, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))]


def test_without_the_extra_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InvalidConfig, match=r"pip install 'kvasir\[tracing\]'"):
        Tracing.by_environment()
