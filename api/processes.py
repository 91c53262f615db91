"""Several processes behind one listening socket, and the supervisor that starts them and starts them again.

They are spawned, never forked: each has a Java machine of its own. All open the same collections, whose indexes are
mapped into memory once for the machine. One of them writes to a collection at a time, by the collection's lock; the
others see what was published at their next search.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from tempfile import TemporaryDirectory
from types import FrameType

from rag.config import ServerConfig, Settings
from rag.errors import InvalidConfig

log = logging.getLogger(__name__)

SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus-client keeps counts that several processes share, if the variable is set when it is imported."""
_SETTLED = 10.0
"""Seconds after which a process counts as well begun: if it dies later it is started again at once."""
_LONGEST_PAUSE = 30.0
_GRACE = 15.0
"""Seconds beyond the drain in which a process may end by itself."""


def bound(server: ServerConfig) -> socket.socket:
    """A socket bound to the server's address. Raises InvalidConfig where that is not free.

    The first process that is up begins to listen: until then connections are refused, not left waiting.
    """
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((server.host, server.port))
    except OSError as error:
        made.close()
        raise InvalidConfig(
            f"cannot listen on {server.host}:{server.port} ({error.strerror}); choose another"
        ) from error
    made.setblocking(False)
    return made


def shared_out(settings: Settings) -> Settings:
    """One process's part: cores are shared among the processes where no number was chosen."""
    server, cores = settings.server, os.cpu_count() or 1
    each = max(1, cores // server.processes)
    return replace(
        settings,
        server=replace(server, workers=server.workers or max(2, each)),
        encoder=replace(settings.encoder, threads=settings.encoder.threads or each),
    )


@dataclass(slots=True)
class _Worker:
    """A process at one of the places, when it was started and how long to wait if it dies early."""

    process: SpawnProcess
    started: float
    pause: float = 0.0
    again: float = field(default=0.0)


class Supervisor:
    """Keeps ``settings.server.processes`` processes running until it is told to stop."""

    def __init__(self, settings: Settings, shared: socket.socket) -> None:
        self._settings = shared_out(settings)
        self._socket = shared
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._stopping = threading.Event()
        self._wake_read, self._wake_write = self._context.Pipe(duplex=False)
        self._up_read, self._up_write = self._context.Pipe(duplex=False)

    def run(self, announce: Callable[[str], None]) -> None:
        """Block until SIGINT or SIGTERM has been seen and all processes have ended."""
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, self._stop)
        for _ in range(self._settings.server.processes):
            self._workers.append(self._started(0.0))
        said = False
        while not self._stopping.is_set():
            sentinels = [worker.process.sentinel for worker in self._workers]
            wait([self._wake_read, self._up_read, *sentinels], self._next_look())
            while self._up_read.poll():
                line = self._up_read.recv()
                if not said:
                    announce(line)
                said = True
            self._replace_dead()
        self._end()

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping.set()
        self._wake_write.send(None)

    def _started(self, pause: float) -> _Worker:
        process = self._context.Process(target=_serve, args=(self._settings, self._socket, self._up_write))
        process.start()
        return _Worker(process, time.monotonic(), pause)

    def _next_look(self) -> float | None:
        due = [worker.again for worker in self._workers if worker.again]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _replace_dead(self) -> None:
        """Start again what has died; what dies soon after its start waits longer each time."""
        now = time.monotonic()
        for place, worker in enumerate(self._workers):
            if self._stopping.is_set() or worker.process.is_alive():
                continue
            if not worker.again:
                early = now - worker.started < _SETTLED
                worker.pause = min(_LONGEST_PAUSE, 2 * worker.pause or 1.0) if early else 0.0
                worker.again = now + worker.pause
                log.error(
                    "server process %d ended with code %s; another is started in %g s",
                    worker.process.pid, worker.process.exitcode, worker.pause,
                )  # fmt: skip
            if worker.again <= now:
                worker.process.close()
                self._workers[place] = self._started(worker.pause)
            elif worker.process.sentinel:
                time.sleep(min(0.05, worker.again - now))

    def _end(self) -> None:
        """Tell all to finish; whoever does not within the drain and some grace is killed."""
        self._socket.close()  # a process that has closed its copy is then refused by the kernel, not left waiting
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        server = self._settings.server
        until = time.monotonic() + server.drain_seconds + server.unready_ms / 1e3 + _GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                log.error("server process %d did not end in time and is killed", worker.process.pid)
                worker.process.kill()
                worker.process.join()


def supervise(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve with several processes until SIGINT or SIGTERM. What they count for /metrics lies in one folder."""
    with TemporaryDirectory(prefix="kvasir-metrics-") as folder:
        os.environ.setdefault(SHARED_METRICS, folder)
        Supervisor(settings, bound(settings.server)).run(announce)


def _serve(settings: Settings, shared: socket.socket, up: Connection) -> None:
    """What each process runs. It ends with its supervisor, however that one ends."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: sys.exit(0))
    threading.Thread(target=_follow_parent, name="kvasir-parent", daemon=True).start()
    from api.serve import run

    run(settings, up.send, [shared])


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a spawned process runs this"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
