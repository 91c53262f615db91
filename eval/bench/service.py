"""The HTTP service beside the library: what a request adds, what 32 clients get, and what a start costs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eval.bench.figures import Figure
from eval.bench.load import Job, Load, run_apart
from eval.bench.server import HOST, Server, serving
from eval.bench.timing import seconds
from rag.assemble import Engine
from rag.pipeline import Pipeline
from rag.values import Query

CLIENTS = 32
AT_ONCE = 960
"""Most requests of one round with many clients; fewer where there are few questions to ask."""
WARM_ROUNDS = 4
"""Rounds that are not counted: Java compiles what runs often, on both sides."""
ADDED_MS, SHARE = 3.0, 0.7
"""Targets: milliseconds that HTTP may add, and the share of the library's throughput it has to keep."""


def http(engine: Engine, collection: str, queries: Sequence[str], repeats: int) -> Iterator[Figure]:
    """POST /v1/search with BM25 beside ``Pipeline.search`` in this process, in turns."""
    pipeline = engine.pipeline(collection, "bm25")
    with serving(engine.home.root) as server:
        yield _alone(server, pipeline, collection, queries, repeats)
        yield from _together(server, pipeline, collection, queries, repeats, engine.settings.server.threads)


def _alone(server: Server, pipeline: Pipeline, collection: str, queries: Sequence[str], repeats: int) -> Figure:
    mine: list[float] = []
    floor: list[float] = []
    for repeat in range(-1, repeats):
        library = [seconds(lambda text=text: pipeline.search(Query(text), 10)) for text in queries]  # type: ignore[misc]
        service = _loaded(server, collection, queries, clients=1)
        if repeat >= 0:
            floor.append(statistics.median(library))
            mine.append(statistics.median(service.seconds or [float("inf")]))
    return Figure(
        name="http p50, 1 client",
        measured=statistics.median(mine) * 1000,
        baseline=statistics.median(floor) * 1000,
        unit="ms",
        relation="difference",
        target=ADDED_MS,
        note=f"bm25 k=10, {len(queries)} queries",
    )


def _together(
    server: Server, pipeline: Pipeline, collection: str, queries: Sequence[str], repeats: int, workers: int
) -> Iterator[Figure]:
    many = [queries[number % len(queries)] for number in range(min(AT_ONCE, CLIENTS * len(queries)))]
    loads: list[Load] = []
    rates: list[float] = []
    for repeat in range(-WARM_ROUNDS, repeats):
        rate = len(many) / _in_threads(pipeline, many, workers)
        load = _loaded(server, collection, many, clients=CLIENTS)
        if repeat >= 0:
            rates.append(rate)
            loads.append(load)
    note = f"bm25 k=10, {len(many)} requests a round, {workers} workers"
    yield Figure(
        name=f"http errors, {CLIENTS} clients",
        measured=float(sum(load.errors + load.refused for load in loads)),
        unit="errors",
        relation="value",
        target=0.0,
        note=note,
    )
    yield Figure(
        name=f"http throughput, {CLIENTS} clients",
        measured=statistics.median(load.rate for load in loads),
        baseline=statistics.median(rates),
        unit="/s",
        target=SHARE,
        at_least=True,
        note=note,
    )


def _in_threads(pipeline: Pipeline, queries: Sequence[str], workers: int) -> float:
    """Seconds in which the library answers all queries, as many at a time as the server has workers."""
    with ThreadPoolExecutor(workers) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda text: pipeline.search(Query(text), 10), queries):
            pass
        return time.perf_counter() - started


def _loaded(server: Server, collection: str, queries: Sequence[str], clients: int) -> Load:
    asked = ({"collection": collection, "query": text, "k": 10, "pipeline": "bm25"} for text in queries)
    bodies = [json.dumps(body) for body in asked]
    return run_apart(Job(host=HOST, port=server.port, path="/v1/search", bodies=bodies, clients=clients))


def start(home: Path, repeats: int) -> Iterator[Figure]:
    """Seconds from the start of ``kvasir serve`` until it is ready, and its memory then."""
    times: list[float] = []
    sizes: list[float] = []
    for _ in range(repeats):
        with serving(home) as server:
            times.append(server.seconds)
            sizes.append(server.resident_mb())
    note = f"median of {repeats}"
    yield Figure(name="start to ready", measured=statistics.median(times), unit="s", relation="value", note=note)
    yield Figure(name="memory when ready", measured=statistics.median(sizes), unit="MiB", relation="value", note=note)
