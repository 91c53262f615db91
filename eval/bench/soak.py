"""A server over time: mixed requests, clients that leave, documents that come and go, and what it holds meanwhile."""

from __future__ import annotations

import itertools
import json
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx
import psutil

from eval.bench.figures import Figure
from eval.bench.server import HOST, Server, serving
from rag.assemble import Engine

SAMPLES = 60
"""Looks at the server, evenly spread over the time."""
WARM = 0.4
"""Share of the time that is not counted: models are loaded, Java compiles, caches and heaps fill."""
GROWTH_MB_MINUTE = 5.0
"""Target: resident memory may grow by no more than that on average, once warm."""
CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server held ``at`` seconds after the start. MiB, and counts of the operating system."""

    at: float
    memory: float
    threads: int
    files: int


def soak(engine: Engine, collection: str, queries: Sequence[str], seconds: float) -> Iterator[Figure]:
    """Growth of memory, threads and open files of a server under ``seconds`` of mixed load."""
    with serving(engine.home.root) as server:
        load = _Mixed(server, collection, queries)
        samples = _watched(server, load, seconds)
    yield from figures(samples, load.answered, load.failed)


def figures(samples: Sequence[Sample], answered: int, failed: Sequence[str]) -> Iterator[Figure]:
    """The figures of samples in the order of time; the first ``WARM`` of them are left out."""
    warm = samples[int(WARM * len(samples)) :]
    note = f"{answered} requests in {samples[-1].at:.0f} s, {len(warm)} samples once warm"
    yield Figure(
        name="soak, memory growth",
        measured=60 * slope([one.at for one in warm], [one.memory for one in warm]),
        unit="MiB/min",
        relation="value",
        target=GROWTH_MB_MINUTE,
        note=f"{note}; {warm[0].memory:.0f} to {warm[-1].memory:.0f} MiB; median of all slopes",
    )
    for name, held in (("threads", [one.threads for one in warm]), ("open files", [one.files for one in warm])):
        half = len(held) // 2
        yield Figure(
            name=f"soak, {name} gained",
            measured=float(max(held[half:]) - max(held[:half])),
            unit=name,
            relation="value",
            target=2.0,
            note=f"most in the second half less most in the first, {max(held)} at most; Java's threads are among them",
        )
    yield Figure(
        name="soak, errors", measured=float(len(failed)), unit="errors", relation="value", target=0.0,
        note="; ".join(sorted(set(failed))[:3]) or note,
    )  # fmt: skip


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """The median slope over all pairs of samples (Theil and Sen): single jumps do not move it; 0 for fewer than two."""
    pairs = itertools.combinations(zip(at, values, strict=True), 2)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs if b[0] > a[0]]
    return statistics.median(slopes) if slopes else 0.0


def _watched(server: Server, load: _Mixed, seconds: float) -> list[Sample]:
    process = psutil.Process(server.pid)
    threads = [threading.Thread(target=load.client, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    started, samples = time.monotonic(), []
    try:
        for number in range(1, SAMPLES + 1):
            time.sleep(max(0.0, started + seconds * number / SAMPLES - time.monotonic()))
            with process.oneshot():
                memory, held = process.memory_info().rss / 2**20, process.num_threads()
            connections = len([one for one in process.net_connections("tcp") if one.status == "ESTABLISHED"])
            samples.append(Sample(time.monotonic() - started, memory, held, process.num_fds() - connections))
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()
    return samples


class _Mixed:
    """Clients that do everything in turn, each in a thread of its own, until ``stop``."""

    def __init__(self, server: Server, collection: str, queries: Sequence[str]) -> None:
        self.stop = threading.Event()
        self.answered = 0
        self.failed: list[str] = []
        self._server, self._collection, self._queries = server, collection, queries
        self._counting = threading.Lock()

    def client(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        doings: list[Callable[[httpx.Client, random.Random], None]] = [
            self._search, self._search, self._search, self._ask, self._rerank, self._change, self._leave, self._spoil
        ]  # fmt: skip
        with httpx.Client(base_url=f"http://{HOST}:{self._server.port}", timeout=120) as client:
            while not self.stop.is_set():
                try:
                    chance.choice(doings)(client, chance)
                except httpx.HTTPError as error:
                    self.failed.append(f"{type(error).__name__}: {error}")

    def _post(self, client: httpx.Client, path: str, body: object, expected: int = 200) -> None:
        response = client.post(path, json=body)
        with self._counting:
            self.answered += 1
        if response.status_code not in (expected, 429):
            self.failed.append(f"{path}: {response.status_code} {response.text[:200]}")

    def _question(self, chance: random.Random) -> str:
        return f"{chance.choice(self._queries)} {chance.randrange(10**6)}"

    def _search(self, client: httpx.Client, chance: random.Random) -> None:
        pipeline = chance.choice(["bm25", "hybrid"])
        self._post(
            client,
            "/v1/search",
            {"collection": self._collection, "query": self._question(chance), "pipeline": pipeline},
        )

    def _ask(self, client: httpx.Client, chance: random.Random) -> None:
        body = {"collection": self._collection, "question": self._question(chance), "stream": chance.random() < 0.5}
        self._post(client, "/v1/answer", body)

    def _rerank(self, client: httpx.Client, chance: random.Random) -> None:
        body = {"model": "sentences", "query": self._question(chance), "documents": list(self._queries[:5])}
        self._post(client, "/v1/rerank", body)

    def _change(self, client: httpx.Client, chance: random.Random) -> None:
        """A document comes and goes."""
        name = f"soak-{threading.get_ident()}"
        documents = f"/v1/collections/{self._collection}/documents"
        added = client.post(documents, json={"documents": [{"id": name, "text": self._question(chance)}]})
        deleted = client.delete(f"{documents}/{name}")
        if added.status_code not in (200, 409, 429) or deleted.status_code not in (200, 404, 409, 429):
            self.failed.append(f"change: {added.status_code}, {deleted.status_code}")

    def _leave(self, _client: httpx.Client, chance: random.Random) -> None:
        """A client that asks and is gone before, or while, it is answered."""
        body = json.dumps({"collection": self._collection, "question": self._question(chance), "stream": True})
        head = f"POST /v1/answer HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body.encode())}\r\n\r\n"
        with socket.create_connection((HOST, self._server.port), timeout=30) as connection:
            connection.sendall(head.encode() + body.encode())
            if chance.random() < 0.5:
                connection.recv(64)

    def _spoil(self, client: httpx.Client, chance: random.Random) -> None:
        self._post(client, "/v1/search", {"collection": "nowhere", "query": self._question(chance)}, 404)
