"""The processes that are killed: a server of two and the Redis beside it, started as a service manager does."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from eval.bench.server import free_port
from tests.redis_server import RedisServer

PATIENCE = 300.0
"""Seconds in which everything has to be ready again."""


class Stack:
    """A home directory's server and its Redis, on loopback ports that stay the same."""

    def __init__(self, home: Path, log: Path) -> None:
        self.redis = RedisServer("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lfu")
        self._port = free_port()
        self._home, self._log = home, log.open("ab")
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self.redis.start()
        self.start_server()

    def start_server(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KVASIR_")}
        environment |= {"KVASIR_REDIS_URL": self.redis.url, "KVASIR_CACHE__MODE": "link-16"}
        command = [sys.executable, "-c", "from rag.cli import main; main()", "serve", "--processes", "2"]
        command += ["--port", str(self._port), "--home", str(self._home)]
        self._server = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log)

    def wait_ready(self) -> float:
        """Seconds until the server has said eight times in a row that it is ready. Raises AssertionError."""
        started, in_a_row, said = time.monotonic(), 0, "nothing"
        while time.monotonic() - started < PATIENCE:
            try:
                ready = httpx.get(f"{self.url}/ready", timeout=10)
                in_a_row = in_a_row + 1 if ready.status_code == 200 and ready.json()["status"] == "ready" else 0
                said = ready.text
            except httpx.TransportError as error:
                in_a_row, said = 0, repr(error)
            if in_a_row == 8:
                return time.monotonic() - started
            time.sleep(0.05)
        raise AssertionError(f"not ready {PATIENCE:.0f} s after the fault; it said: {said}")

    def fault(self, kind: str, chance: random.Random) -> None:
        """Kill -9: ``server`` all of its processes at once, ``worker`` one of the two, ``redis`` that. Then, like a
        service manager, start again what has no supervisor of its own."""
        if kind == "redis":
            self.redis.stop()
            time.sleep(chance.uniform(0, 0.5))
            self.redis.start()
        elif kind == "worker":
            chance.choice(self._workers()).kill()
        else:
            self.kill_server()
            self.start_server()

    def kill_server(self) -> None:
        assert self._server is not None
        family = [*psutil.Process(self._server.pid).children(recursive=True), psutil.Process(self._server.pid)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, 20)
        self._server.wait(20)

    def _workers(self) -> list[psutil.Process]:
        assert self._server is not None
        children = psutil.Process(self._server.pid).children()
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def end(self) -> None:
        """In order; killed where that takes too long."""
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(60)
            except subprocess.TimeoutExpired:
                self.kill_server()
        self.redis.__exit__(None, None, None)
        self._log.close()
