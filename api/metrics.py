"""What /metrics counts of requests, for Prometheus. Each application has a registry of its own.

Labels are bounded: routes are the application's, stages and error codes the code's, pipelines those of the settings;
``other`` is whatever goes beyond. No label holds what a client wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from api.account import Account
from rag.values import StageReport

OTHER = "other"
NONE = "none"
"""The pipeline of a request that has none."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the buckets, from a search by Lucene to an answer by a large model."""

Child = TypeVar("Child")
Labels = tuple[str, ...]


class Series(Generic[Child]):
    """Children of a metric by their labels, made when first asked for; beyond ``most`` all new ones are one."""

    def __init__(self, make: Callable[..., Child], width: int, most: int = 1000) -> None:
        self._make, self._most = make, most
        self._last = (OTHER,) * width
        self._known: dict[Labels, Child] = {}

    def __call__(self, *labels: str) -> Child:
        found = self._known.get(labels)
        if found is None:
            named = labels if len(self._known) < self._most else self._last
            found = self._known.get(named) or self._known.setdefault(named, self._make(*named))
        return found


class RequestMetrics:
    """Counters and histograms of the requests of one application; ``pipelines`` are the names that may be labels."""

    def __init__(self, registry: CollectorRegistry, pipelines: Container[str]) -> None:
        self._pipelines = pipelines

        def counter(name: str, text: str, *labels: str) -> Series[Counter]:
            return Series(Counter(name, text, labels, registry=registry).labels, len(labels))

        def histogram(name: str, text: str, *labels: str) -> Series[Histogram]:
            made = Histogram(name, text, labels, registry=registry, buckets=_SECONDS)
            return Series(made.labels, len(labels))

        self._requests = counter("kvasir_requests", "Requests by outcome.", "method", "route", "status")
        self._seconds = histogram("kvasir_request_seconds", "Until the last byte of the response.", "route")
        self._errors = counter("kvasir_errors", "Errors by the code of their body.", "code")
        self._stage = histogram("kvasir_stage_seconds", "Time of a stage, without those that feed it.", *_STAGE)
        self._computed = counter("kvasir_tokens_computed", "Tokens that models computed.", *_STAGE)
        self._reused = counter("kvasir_tokens_saved", "Tokens whose states came from the chunk cache.", *_STAGE)
        self._decoded = counter("kvasir_tokens_decoded", "Tokens that models wrote.", *_STAGE)
        self._degraded = counter("kvasir_degraded", "Stages that gave less than was asked for.", *_STAGE)

    def read(self, account: Account) -> None:
        """Count a request that is over. For one thread at a time."""
        self._requests(account.method, account.route, str(account.status)).inc()
        self._seconds(account.route).observe(account.seconds)
        if account.error or account.status >= 400:
            self._errors(account.error or f"http_{account.status}").inc()
        if account.reports:
            pipeline = account.pipeline or NONE
            known = pipeline if pipeline == NONE or pipeline in self._pipelines else OTHER
            for report in account.reports:
                self._count(report, known)

    def _count(self, report: StageReport, pipeline: str) -> None:
        self._stage(report.stage, pipeline).observe(report.seconds)
        if report.tokens:
            self._computed(report.stage, pipeline).inc(report.tokens)
        if report.reused:
            self._reused(report.stage, pipeline).inc(report.reused)
        if report.decoded:
            self._decoded(report.stage, pipeline).inc(report.decoded)
        if report.degraded:
            self._degraded(report.stage, pipeline).inc()


_STAGE = ("stage", "pipeline")
