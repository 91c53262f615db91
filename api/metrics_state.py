"""What /metrics shows of the process as it is now: queues, collections, jobs, the cache, memory."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api.service import Service
from indexes import jvm
from rag.assemble import Engine
from rag.errors import CollectionError

ALL = "all"
MOST_COLLECTIONS = 200
"""Collections that have series of their own."""


class ServerState(Collector):
    """Gauges of one service, read when they are asked for: on a worker thread, for files and Java are looked at."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """Nothing: looking is what costs."""
        return ()

    def collect(self) -> Iterator[Metric]:
        service = self._service
        yield build_info()
        yield _gauge("kvasir_requests_in_flight", "Requests that are being answered.", service.accounts.open)
        yield _gauge("kvasir_ready", "1 once everything is warm.", float(service.warmup.finished))
        yield _labelled("kvasir_queue_length", "Requests that wait or run.", "queue", queues(service))
        limits = {"workers": service.workers.limit, "writers": service.writers.limit}
        yield _labelled("kvasir_queue_limit", "Requests a queue takes; then 429.", "queue", limits)
        yield _labelled("kvasir_jobs", "Jobs of this server by state.", "state", service.job_counts())
        yield from collections(service.engine, named=not service.guard.closed)
        yield from cache(service.engine)
        yield from memory()


def queues(service: Service) -> dict[str, float]:
    """Length by queue: threads that answer and that write, and what waits for the language models."""
    waiting = service.engine.waiting()
    return {"workers": service.workers.pending, "writers": service.writers.pending, **waiting}


def build_info() -> Metric:
    found = GaugeMetricFamily(
        "kvasir_build_info", "1; the labels say what runs.", labels=("version", "python", "machine")
    )
    found.add_metric((version("kvasir"), platform.python_version(), platform.machine()), 1)
    return found


def collections(engine: Engine, *, named: bool) -> Iterator[Metric]:
    """Sizes by collection; all together where they are not to be named, for whoever reads them sees every tenant."""
    names = engine.home.names()
    yield _gauge("kvasir_collections", "Collections of this server.", len(names))
    sizes = {"documents": dict[str, float](), "chunks": dict[str, float]()}
    damaged = 0
    for name in names[:MOST_COLLECTIONS]:
        try:
            status = engine.collection(name).status()
        except CollectionError:
            damaged += 1
            continue
        sizes["documents"][name], sizes["chunks"][name] = status.documents, status.chunks
    for kind, counts in sizes.items():
        if not named:
            counts = {ALL: sum(counts.values())}
        text = f"{kind.capitalize()} of a collection; of the first {MOST_COLLECTIONS} by name."
        yield _labelled(f"kvasir_collection_{kind}", text, "collection", counts)
    yield _gauge("kvasir_collections_damaged", "Collections that cannot be opened.", damaged)


def cache(engine: Engine) -> Iterator[Metric]:
    """Of the chunk cache, by tier from the fastest on; hits over lookups is the hit ratio."""
    tiers = engine.caching.looked()
    texts = {"lookups": "Chunks asked of a tier of the cache.", "hits": "Chunks that were there."}
    for place, (kind, text) in enumerate(texts.items()):
        found = CounterMetricFamily(f"kvasir_cache_{kind}", text, labels=("tier",))
        for tier, counts in tiers.items():
            found.add_metric((tier,), counts[place])
        yield found


def memory() -> Iterator[Metric]:
    """Java's heap and what torch holds on GPUs; the process's own memory is in process_resident_memory_bytes."""
    if (heap := jvm.heap_used_mb()) is not None:
        yield _gauge("kvasir_jvm_heap_bytes", "Java heap in use.", heap * 2**20)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        held = {f"cuda:{i}": torch.cuda.memory_allocated(i) for i in range(torch.cuda.device_count())}
        yield _labelled("kvasir_torch_memory_bytes", "Memory of tensors.", "device", held)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    found = GaugeMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        found.add_metric((key,), value)
    return found
