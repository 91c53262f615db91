"""GET /metrics counts what happened: every expected number is what the test itself has done."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from api.account import Account, Accounts
from api.app import create_app
from api.metrics import OTHER, RequestMetrics, Series
from rag.config import ModelConfig
from rag.keys import KeyFile
from rag.kv.memory import MemoryStore
from rag.kv.tiered import TieredStore
from rag.values import StageReport
from tests.api.conftest import Client, MakeEngine, Serving

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]


def parsed(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


def scraped(client: Client) -> Samples:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return parsed(response.text)


@pytest.fixture(scope="module")
def counted(built_home: Path, make_engine: MakeEngine) -> Iterator[Client]:
    """An application that nothing but this module asks."""
    with TestClient(create_app(make_engine(built_home, model=ModelConfig(name="lexical")))) as opened:
        yield opened


def test_requests_stages_and_errors_are_counted_as_they_were_made(counted: Client) -> None:
    before = scraped(counted)
    for _ in range(3):
        counted.post("/v1/search", json={"collection": "demo", "query": "heart", "pipeline": "hybrid"})
    counted.post("/v1/search", json={"collection": "demo", "query": ["tides", "bread"], "pipeline": "bm25"})
    counted.post("/v1/search", json={"collection": "nowhere", "query": "x"})
    counted.get("/no/such/route")
    after = scraped(counted)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    search = {"method": "POST", "route": "/v1/search"}
    assert grown("kvasir_requests_total", **search, status="200") == 3 + 1
    assert grown("kvasir_requests_total", **search, status="404") == 1
    assert grown("kvasir_request_seconds_count", route="/v1/search") == 5
    assert grown("kvasir_stage_seconds_count", stage="bm25", pipeline="hybrid") == 3
    assert grown("kvasir_stage_seconds_count", stage="dense", pipeline="hybrid") == 3
    assert grown("kvasir_stage_seconds_count", stage="bm25", pipeline="bm25") == 2
    assert grown("kvasir_errors_total", code="collection_not_found") == 1
    assert grown("kvasir_requests_total", method="GET", route="unmatched", status="404") == 1
    assert grown("kvasir_errors_total", code="not_found") == 1


def test_tokens_are_those_the_traces_say(counted: Client) -> None:
    before = scraped(counted)
    asked = {"model": "icr", "query": "what pumps blood?", "documents": ["The heart pumps blood.", "Tides."]}
    tokens = counted.post("/v1/rerank", json=asked).json()["trace"]["tokens"]
    labels = {"stage": "rerank", "pipeline": "none"}
    assert tokens > 0
    grown = value(scraped(counted), "kvasir_tokens_computed_total", **labels)
    assert grown - value(before, "kvasir_tokens_computed_total", **labels) == tokens


def test_the_state_of_the_process_is_shown(counted: Client) -> None:
    samples = scraped(counted)
    assert value(samples, "kvasir_collections") == 1
    assert value(samples, "kvasir_collection_documents", collection="demo") == 6
    assert value(samples, "kvasir_collection_chunks", collection="demo") == 6
    assert value(samples, "kvasir_requests_in_flight") == 1  # the one that asks
    assert value(samples, "kvasir_queue_length", queue="labels") == 0
    assert value(samples, "kvasir_queue_limit", queue="workers") == 2 + 64
    assert value(samples, "process_resident_memory_bytes") > 50 * 2**20
    assert value(samples, "kvasir_jvm_heap_bytes") > 2**20
    assert any(name == "kvasir_build_info" for name, _ in samples)


def test_jobs_are_shown_where_somebody_knows_them(counted: Client) -> None:
    counted.app.state.service.job_counts = lambda: {"running": 2, "failed": 1}
    samples = scraped(counted)
    assert value(samples, "kvasir_jobs", state="running") == 2
    assert value(samples, "kvasir_jobs", state="failed") == 1


def test_two_applications_count_apart(counted: Client, built_home: Path, make_engine: MakeEngine) -> None:
    counted.get("/health")
    with TestClient(create_app(make_engine(built_home))) as other:
        assert value(scraped(other), "kvasir_requests_total", method="GET", route="/health", status="200") == 0


def test_the_direct_way_counts_as_the_application_does(
    built_home: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    engine = make_engine(built_home)
    body = {"collection": "demo", "query": "heart", "pipeline": "bm25"}
    with serving(engine) as running:
        for _ in range(4):
            response = httpx.post(f"{running.url}/v1/search", json=body)
        missing = httpx.post(f"{running.url}/v1/search", json=body | {"collection": "nowhere"})
        samples = parsed(httpx.get(f"{running.url}/metrics").text)
    assert missing.status_code == 404
    assert value(samples, "kvasir_requests_total", method="POST", route="/v1/search", status="200") == 4
    assert value(samples, "kvasir_stage_seconds_count", stage="bm25", pipeline="bm25") == 4
    assert value(samples, "kvasir_errors_total", code="collection_not_found") == 1
    assert value(samples, "kvasir_requests_in_flight") == 1
    assert response.headers["server-timing"].startswith("bm25;dur=")


def test_a_pipeline_that_is_not_configured_is_other() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry, {"hybrid"})
    for name in ("hybrid", "strange-1", "strange-2", ""):
        metrics.read(Account(status=200, pipeline=name, reports=[StageReport("bm25", 0.5)]))
    counts = {
        name: registry.get_sample_value("kvasir_stage_seconds_count", {"stage": "bm25", "pipeline": name})
        for name in ("hybrid", OTHER, "none", "strange-1")
    }
    assert counts == {"hybrid": 1, OTHER: 2, "none": 1, "strange-1": None}


def test_a_series_has_a_bound() -> None:
    series: Series[list[str]] = Series(lambda *labels: list(labels), 2, most=3)
    children = [series("a", str(i)) for i in range(10)]
    assert children[:4] == [["a", "0"], ["a", "1"], ["a", "2"], [OTHER, OTHER]]
    assert all(child is children[3] for child in children[3:])
    assert series("a", "1") is children[1]


def test_tiers_count_what_they_were_asked_and_what_they_had() -> None:
    above, below = MemoryStore(2**20), MemoryStore(2**20)
    above.name, below.name = "above", "below"
    store = TieredStore([above, below])
    below.put("a", b"1")
    store.get_many(["a", "b"])  # above: 2 asked, 0 there; below: 2 asked, 1 there
    store.get("a")  # above has a copy now
    assert store.looked == {"above": (3, 1), "below": (2, 1)}


def test_counting_a_search_costs_less_than_twenty_microseconds() -> None:
    metrics, accounts = RequestMetrics(CollectorRegistry(), {"hybrid"}), Accounts()
    accounts.readers.append(metrics.read)
    reports = [StageReport("bm25", 0.001), StageReport("dense", 0.002, tokens=9), StageReport("fusion", 0.001)]
    best = min(_loop(accounts, reports, 500) for _ in range(9))
    assert best < 20e-6, f"{1e6 * best:.1f} microseconds a request"


def _loop(accounts: Accounts, reports: list[StageReport], n: int) -> float:
    started = time.perf_counter()
    for _ in range(n):
        account = Account(method="POST", route="/v1/search", status=200, pipeline="hybrid")
        accounts.begin()
        account.ran(reports)
        accounts.end(account)
    return (time.perf_counter() - started) / n


def test_where_keys_are_asked_for_no_collection_is_named(home: Path, make_engine: MakeEngine) -> None:
    _, secret = KeyFile(home).create("reader", "read")
    _, tenants = KeyFile(home).create("tenant", "admin", tenant="acme")
    with TestClient(create_app(make_engine(home))) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"authorization": f"Bearer {tenants}"}).status_code == 403
        text = client.get("/metrics", headers={"authorization": f"Bearer {secret}"}).text
    assert value(parsed(text), "kvasir_collection_documents", collection="all") == 6
    assert "demo" not in text


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_s_header_names_its_stages_in_order(counted: Client, stream: bool) -> None:
    asked = {"collection": "demo", "question": "What pumps blood?", "stream": stream}
    header = counted.post("/v1/answer", json=asked).headers["server-timing"]
    parts = re.findall(r"([\w-]+);dur=([\d.]+)", header)
    *ran, last = [name for name, _ in parts]
    assert ran[:5] == ["bm25", "dense", "fusion", "rerank", "select"]
    assert ran[5:] == ["generate"] or (stream and ran[5:] == []), "the header of a stream is sent before its end"
    assert last == "total"
    assert sum(float(ms) for name, ms in parts[:-1]) <= float(parts[-1][1])


def test_a_client_that_leaves_is_counted_as_one(built_home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    """Half of a body, then nothing: no answer is sent, and no failure of the server is counted."""
    with serving(make_engine(built_home)) as running:
        url = httpx.URL(running.url)
        with socket.create_connection((url.host, url.port or 80)) as wire:
            wire.sendall(b"POST /v1/answer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            time.sleep(0.3)
        for _ in range(50):
            samples = parsed(httpx.get(f"{running.url}/metrics").text)
            if value(samples, "kvasir_errors_total", code="client_left"):
                break
            time.sleep(0.1)
    assert value(samples, "kvasir_requests_total", method="POST", route="/v1/answer", status="499") == 1
    assert value(samples, "kvasir_errors_total", code="client_left") == 1
    assert value(samples, "kvasir_requests_in_flight") == 1
