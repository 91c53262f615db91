"""``kvasir serve --processes 2``: one address, one collection, and a supervisor that replaces what dies."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from eval.bench.server import free_port
from indexes.home import Home


@dataclass
class Served:
    """The supervisor and the address."""

    process: subprocess.Popen[bytes]
    url: str

    def workers(self) -> list[psutil.Process]:
        """The server processes: spawned by the supervisor, with the socket, not its helper."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def get(self, path: str) -> httpx.Response:
        """Over a connection of its own, so that either process may answer."""
        return httpx.get(f"{self.url}{path}", timeout=30)


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if true():
                return
        except (httpx.TransportError, psutil.Error):
            pass
        time.sleep(0.2)
    raise AssertionError("it never came true")


@pytest.fixture(scope="module")
def served(small_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("processes") / "home"
    shutil.copytree(small_home.root, home)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KVASIR_")}
    command = [sys.executable, "-c", "from rag.cli import main; main()", "serve", "--processes", "2"]
    process = subprocess.Popen([*command, "--port", str(port), "--home", str(home)], env=environment)
    made = Served(process, f"http://127.0.0.1:{port}")
    try:
        until(lambda: all(made.get("/ready").status_code == 200 for _ in range(8)))
        yield made
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def test_every_process_sees_what_any_of_them_published(served: Served) -> None:
    assert len(served.workers()) == 2
    document = {"id": "whale", "title": "Whales", "text": "A whale called Vilma swims past Vendel."}
    added = httpx.post(f"{served.url}/v1/collections/small/documents", json={"documents": [document]}, timeout=60)
    assert added.json()["added"] == 1
    body = {"collection": "small", "query": "whale Vilma", "pipeline": "bm25", "k": 1}
    for _ in range(12):
        found = httpx.post(f"{served.url}/v1/search", json=body, timeout=60).json()
        assert found["results"][0]["document_id"] == "whale"
    assert httpx.delete(f"{served.url}/v1/collections/small/documents/whale", timeout=60).json()["deleted"] == 1
    for _ in range(12):
        results = httpx.post(f"{served.url}/v1/search", json=body, timeout=60).json()["results"]
        assert "whale" not in [result["document_id"] for result in results]


def test_a_process_that_dies_is_replaced_and_the_other_goes_on(served: Served) -> None:
    first, second = served.workers()
    first.send_signal(signal.SIGKILL)
    for _ in range(10):
        assert served.get("/health").status_code == 200
    until(lambda: len([one for one in served.workers() if one.pid not in (first.pid, second.pid)]) == 1)
    assert second.is_running()
    until(lambda: all(served.get("/ready").status_code == 200 for _ in range(8)))


def test_processes_count_together(served: Served) -> None:
    def counted() -> float:
        text = served.get("/metrics").text
        found = re.search(r'^kvasir_requests_total\{method="POST",route="/v1/search",status="200"\} (\S+)$', text, re.M)
        return float(found[1]) if found else 0.0

    before = counted()
    for _ in range(8):
        httpx.post(f"{served.url}/v1/search", json={"collection": "small", "query": "ferry", "pipeline": "bm25"})
    assert [counted() - before for _ in range(6)] == [8.0] * 6, "whichever process answers"


def test_told_to_end_all_end_in_order_and_nobody_listens(served: Served) -> None:
    workers = served.workers()
    served.process.terminate()
    assert served.process.wait(60) == 0
    assert not any(worker.is_running() for worker in workers)
    with pytest.raises(httpx.TransportError):
        served.get("/health")


def test_processes_end_with_a_supervisor_that_was_killed(served: Served) -> None:
    """Nothing is left that holds the address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KVASIR_")}
    home = Path(served.process.args[-1])  # type: ignore[index,arg-type]
    command = [*served.process.args]  # type: ignore[misc]
    again = subprocess.Popen(command, env=environment)
    other = Served(again, served.url)
    until(lambda: other.get("/health").status_code == 200 and len(other.workers()) == 2)
    workers = other.workers()
    again.kill()
    again.wait(10)
    until(lambda: not any(worker.is_running() for worker in workers), 60)
    assert home.is_dir()
