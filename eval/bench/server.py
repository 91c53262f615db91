"""A ``kvasir serve`` process to be measured: started on a free loopback port, ended when done."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rag.errors import KvasirError

HOST = "127.0.0.1"
PATIENCE = 180.0
"""Seconds a server may take until it is ready."""


class ServerDidNotStart(KvasirError):
    """The server ended, or was not ready in time."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready. ``seconds`` it took from the start of the process."""

    port: int
    pid: int
    seconds: float

    def resident_mb(self) -> float:
        """Resident memory now (VmRSS), in MiB; 0.0 where the system has no /proc."""
        status = Path(f"/proc/{self.pid}/status")
        if not status.is_file():
            return 0.0
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@contextlib.contextmanager
def serving(home: Path, environ: Mapping[str, str] | None = None, *more: str) -> Iterator[Server]:
    """A server over the home directory; ``environ`` and ``more`` arguments are added to its own.

    Raises ServerDidNotStart with the end of what it wrote.
    """
    port = free_port()
    command = [sys.executable, "-c", "from rag.cli import main; main()", "serve"]
    command += ["--port", str(port), "--home", str(home), *more]
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        seen = os.environ | dict(environ or {})
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, env=seen)  # noqa: S603
        try:
            while not is_ready(port):
                if process.poll() is not None or time.perf_counter() - started > PATIENCE:
                    log.seek(0)
                    said = log.read()[-500:].strip() or "nothing"
                    raise ServerDidNotStart(
                        f"kvasir serve was not ready after {PATIENCE:.0f} s or ended; it said: {said}"
                    )
                time.sleep(0.02)
            yield Server(port, process.pid, time.perf_counter() - started)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_ready(port: int) -> bool:
    """True where GET /ready answers 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
