"""``kvasir serve`` under load: closed and open loop for each kind of request, shared passes, and overload."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.bench.figures import Figure
from eval.bench.load import Job, Load, poisson, run_apart
from eval.bench.server import HOST, Server, serving
from eval.bench.serving_floors import Floor, embed_alone, rerank_alone
from eval.bench.shapes import save_cross_encoder
from rag.assemble import Engine

CLIENTS = (1, 8, 64)
SHARED_BY = 32
"""Clients of the figures for shared passes."""
LOAD = 0.7
"""Arrivals of an open loop, as a share of what the closed loop of as many clients was answered."""
GAIN, ALONE, HELD = 2.0, 1.1, 1.5
"""Targets: shared passes beside one at a time; one client beside the bare model; the 95th percentile of those that are
admitted at twice what can be answered, beside a server that is just full."""
QUEUE = 62
"""Requests that may wait where overload is measured: with two workers 64 are taken on."""
PASSAGES = 10
"""Passages of a request to rerank."""
BODIES = 20_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of request; ``body`` makes the nth."""

    name: str
    path: str
    body: Callable[[int], object]

    def bodies(self, most: int) -> list[str]:
        return [json.dumps(self.body(number)) for number in range(most)]


def scenarios(engine: Engine, collection: str, queries: Sequence[str]) -> list[Scenario]:
    """Every question differs, so that no vector is kept from an earlier one."""
    passages = engine.collection(collection).snapshot().store.list_documents(limit=200)
    texts = [text[:500] for _, _, text in _texts(engine, collection, [row[0] for row in passages])]
    taken = itertools.cycle(range(0, max(1, len(texts) - PASSAGES), PASSAGES))

    def question(number: int) -> str:
        return f"{queries[number % len(queries)]} {number}"

    def search(pipeline: str) -> Callable[[int], object]:
        return lambda n: {"collection": collection, "query": question(n), "k": 10, "pipeline": pipeline}

    def rerank(number: int) -> object:
        at = next(taken)
        return {"model": "cross-encoder", "query": question(number), "documents": texts[at : at + PASSAGES]}

    def answer(generate: str) -> Callable[[int], object]:
        chosen = {"name": "ask", "generate": generate}
        return lambda n: {"collection": collection, "question": question(n), "pipeline": chosen, "budget": 200}

    return [
        Scenario("bm25", "/v1/search", search("bm25")),
        Scenario("hybrid", "/v1/search", search("hybrid")),
        Scenario("rerank", "/v1/rerank", rerank),
        Scenario("embed", "/v1/embeddings", lambda n: {"input": question(n)}),
        Scenario("answer extractive", "/v1/answer", answer("extractive")),
        Scenario("answer local", "/v1/answer", answer("local")),
    ]


def _texts(engine: Engine, collection: str, ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for doc_id in ids:
        found = engine.collection(collection).document(doc_id)
        if found is not None and found.text.strip():
            yield found.id, found.title, found.text


def held_load(
    engine: Engine,
    collection: str,
    queries: Sequence[str],
    seconds: float,
    *,
    names: Sequence[str] = (),
    clients: Sequence[int] = CLIENTS,
) -> Iterator[Figure]:
    """All figures, each over ``seconds`` of load; ``names`` chooses among the scenarios."""
    chosen = [one for one in scenarios(engine, collection, queries) if not names or one.name in names]
    with tempfile.TemporaryDirectory() as folder:
        model = save_cross_encoder(Path(folder) / "cross-encoder")
        environ = {"KVASIR_RERANKER__CROSS-ENCODER__MODEL": str(model), "KVASIR_SERVER__MAX_WAIT_MS": "0"}
        with serving(engine.home.root, environ) as server:
            for scenario in chosen:
                _load(server, scenario, 1, seconds)  # models are loaded and Java has compiled
                yield from _loops(server, scenario, clients, seconds)
            floors: dict[str, Floor] = {"rerank": lambda b, s: rerank_alone(model, b, s), "embed": embed_alone}
            for scenario in chosen:
                if scenario.name in floors:
                    yield from _shared(server, scenario, floors[scenario.name], seconds)
        full = environ | {"KVASIR_SERVER__QUEUE": str(QUEUE), "KVASIR_SERVER__WORKERS": "2"}
        with serving(engine.home.root, full) as server:
            for scenario in chosen:
                if scenario.name in ("bm25", "rerank"):
                    yield from _overload(server, scenario, seconds)


def _loops(server: Server, scenario: Scenario, clients: Sequence[int], seconds: float) -> Iterator[Figure]:
    """The median of every loop, with the tail beside it."""
    for number in clients:
        closed = _load(server, scenario, number, seconds)
        yield _figure(f"{scenario.name}, closed, {number} clients", closed)
        rate = LOAD * closed.rate
        opened = _load(server, scenario, number, seconds, rate)
        yield _figure(f"{scenario.name}, open, {number} connections", opened, f"Poisson, {rate:.1f} /s wanted")


def _figure(name: str, load: Load, note: str = "") -> Figure:
    tail = f"p95 {1e3 * load.quantile(0.95):.1f} ms, p99 {1e3 * load.quantile(0.99):.1f} ms, {load.rate:.1f} /s"
    said = f"{tail}, {load.errors} errors, {load.refused} refused"
    note = f"{said}; {note}" if note else said
    return Figure(name=name, measured=1e3 * load.quantile(0.5), unit="ms p50", relation="value", note=note)


def _shared(server: Server, scenario: Scenario, floor: Floor, seconds: float) -> Iterator[Figure]:
    """Requests that share passes beside the bare model called for one request after the other."""
    alone = floor(scenario.bodies(200), seconds)
    _load(server, scenario, SHARED_BY, seconds)
    many = _load(server, scenario, SHARED_BY, seconds)
    one = _load(server, scenario, 1, seconds)
    beside = "the bare model, one at a time"
    note = f"{many.errors + one.errors} errors"
    if scenario.name == "rerank":
        note += f"; {PASSAGES} passages of at most 500 characters, random weights of the shape of MiniLM-L6"
    yield Figure(
        name=f"{scenario.name} throughput, {SHARED_BY} clients",
        measured=many.rate,
        baseline=1 / alone,
        beside=beside,
        unit="/s",
        target=GAIN,
        at_least=True,
        note=note,
    )
    yield Figure(
        name=f"{scenario.name} p50, 1 client",
        measured=1e3 * one.quantile(0.5),
        baseline=1e3 * alone,
        beside=beside,
        unit="ms",
        target=ALONE,
        note=note,
    )


def _overload(server: Server, scenario: Scenario, seconds: float) -> Iterator[Figure]:
    """Twice as many arrivals as a full server answers: what is admitted is as quick as there, the rest is told so."""
    _load(server, scenario, 8, seconds)
    full = _load(server, scenario, QUEUE + 2, seconds)
    flooded = _load(server, scenario, 4 * QUEUE, seconds, 2 * full.rate)
    arrived = len(flooded.seconds) + flooded.refused + flooded.errors
    yield Figure(
        name=f"{scenario.name} p95 of the admitted, overloaded",
        measured=1e3 * flooded.quantile(0.95),
        baseline=1e3 * full.quantile(0.95),
        beside=f"{QUEUE + 2} clients in turn",
        unit="ms",
        target=HELD,
        note=f"Poisson at {2 * full.rate:.1f} /s, {QUEUE + 2} places; {flooded.refused / max(1, arrived):.0%} refused, "
        f"{flooded.rate:.1f} /s answered, {flooded.errors} errors",
    )


def _load(server: Server, scenario: Scenario, clients: int, seconds: float, rate: float = 0.0) -> Load:
    """A closed loop, or an open one at ``rate`` a second."""
    due = poisson(rate, seconds, seed=7) if rate else []
    bodies = scenario.bodies(len(due) if rate else min(BODIES, int(seconds * 4000) + clients))
    return run_apart(
        Job(
            host=HOST,
            port=server.port,
            path=scenario.path,
            bodies=bodies,
            clients=clients,
            due=due,
            seconds=0.0 if rate else seconds,
        )
    )
