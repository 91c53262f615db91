"""The load client's open loop sends when it is time, and counts waiting for a slow server as the server's."""

from __future__ import annotations

import asyncio
import math
import statistics
from itertools import pairwise

import pytest

from eval.bench.load import Job, Load, poisson, run


async def _answering(delay: float, status: str, job: Job) -> Load:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                await asyncio.sleep(delay)
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode())
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await asyncio.to_thread(run, Job(**{**_fields(job), "port": port}))


def _fields(job: Job) -> dict[str, object]:
    return {name: getattr(job, name) for name in Job.__dataclass_fields__}


def loaded(delay: float, status: str = "200 OK", **job: object) -> Load:
    given = {"host": "127.0.0.1", "port": 0, "path": "/", "bodies": ["x"] * 5, "clients": 1, **job}
    return asyncio.run(_answering(delay, status, Job(**given)))  # type: ignore[arg-type]


def test_waiting_for_a_slow_server_is_counted_from_when_a_request_was_due() -> None:
    """Five requests due at once on one connection, each answered in 50 ms: 50, 100 ... 250 ms, not 50 each."""
    load = loaded(0.05, due=[0.0] * 5)
    for number, seconds in enumerate(sorted(load.seconds), start=1):
        assert seconds >= number * 0.05
    closed = loaded(0.05)
    assert statistics.median(closed.seconds) < statistics.median(load.seconds)


def test_nothing_is_sent_before_it_is_due() -> None:
    load = loaded(0.0, due=[0.0, 0.1, 0.2, 0.3, 0.4], clients=5)
    assert load.wall >= 0.4
    assert len(load.seconds) == 5


def test_a_refusal_is_no_error() -> None:
    load = loaded(0.0, "429 Too Many Requests")
    assert (load.refused, load.errors, len(load.seconds)) == (5, 0, 0)
    assert load.quantile(0.5) == math.inf


def test_a_load_ends_after_its_seconds() -> None:
    load = loaded(0.02, bodies=["x"] * 10_000, seconds=0.2, clients=2)
    assert 2 <= len(load.seconds) < 100
    assert load.errors == 0


def test_arrivals_are_poisson_and_the_same_for_a_seed() -> None:
    due = poisson(200.0, 50.0, seed=1)
    assert due == poisson(200.0, 50.0, seed=1) != poisson(200.0, 50.0, seed=2)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert len(due) == pytest.approx(200 * 50, rel=0.05)
    assert statistics.mean(gaps) == pytest.approx(statistics.stdev(gaps), rel=0.05)  # exponential: both are 1/rate


def test_quantiles_are_nearest_ranks() -> None:
    load = Load([0.4, 0.1, 0.3, 0.2], 0, 2.0)
    assert [load.quantile(share) for share in (0.0, 0.25, 0.5, 0.95, 1.0)] == [0.1, 0.1, 0.2, 0.4, 0.4]
    assert load.rate == 4 / 2
