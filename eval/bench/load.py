"""A light HTTP load, run as a process of its own: ``python -m eval.bench.load`` with a Job as JSON on stdin.

Kept-alive sockets, one thread, one buffer and a parser in C: the client shares the machine's cores with the server.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from httptools import HttpParserError, HttpResponseParser


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Requests for one server: every body once, POSTed to ``path`` by ``clients`` connections at a time."""

    host: str
    port: int
    path: str
    bodies: Sequence[str]
    clients: int


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a job: seconds of each answered request, how many failed, and the wall time of it all."""

    seconds: Sequence[float]
    errors: int
    wall: float


def run_apart(job: Job) -> Load:
    """Run the job in another process, so that the client has its own interpreter lock."""
    command = [sys.executable, "-m", "eval.bench.load"]
    done = subprocess.run(command, input=json.dumps(asdict(job)), capture_output=True, text=True, check=True)  # noqa: S603
    return Load(**json.loads(done.stdout))


def run(job: Job) -> Load:
    """Run the job here. Anything but status 200 is an error, and so is a connection that breaks."""
    load = _Run(job)
    started = time.perf_counter()
    load.drive()
    return Load(load.seconds, load.errors, time.perf_counter() - started)


class _Run:
    """All clients of a job in one thread: whichever connection has an answer is read and given the next body."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.waiting = iter([request(job, body) for body in job.bodies])
        self.seconds: list[float] = []
        self.errors = 0
        self.selector = selectors.DefaultSelector()
        self.buffer = memoryview(bytearray(1 << 18))

    def drive(self) -> None:
        for _ in range(self.job.clients):
            self._connect()
        while self.selector.get_map():
            for key, _ in self.selector.select():
                self._read(key.data)

    def _connect(self) -> None:
        """A connection with its first request, if one is left; where nobody listens the request is an error."""
        for asked in self.waiting:
            try:
                client = _Client(self.job, asked)
            except OSError:
                self.errors += 1
                continue
            self.selector.register(client.socket, selectors.EVENT_READ, client)
            return

    def _read(self, client: _Client) -> None:
        try:
            if not client.read(self.buffer):
                return
        except (OSError, EOFError, HttpParserError):  # a broken one costs the request it broke in
            self.errors += 1
            self._close(client)
            self._connect()
            return
        if client.status == 200:
            self.seconds.append(time.perf_counter() - client.started)
        else:
            self.errors += 1
        asked = next(self.waiting, None)
        if asked is None:
            self._close(client)
        else:
            client.ask(asked)

    def _close(self, client: _Client) -> None:
        self.selector.unregister(client.socket)
        client.socket.close()


class _Client:
    """One kept-alive connection and the request it has under way."""

    def __init__(self, job: Job, asked: bytes) -> None:
        self.socket = socket.create_connection((job.host, job.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ask(asked)

    def ask(self, asked: bytes) -> None:
        self.parser, self.complete = HttpResponseParser(self), False
        self.started = time.perf_counter()
        self.socket.sendall(asked)

    def read(self, buffer: memoryview) -> bool:
        """Take what has arrived; True once the answer is complete. Raises EOFError where it ends before that."""
        received = self.socket.recv_into(buffer)
        if not received:
            raise EOFError
        self.parser.feed_data(buffer[:received])
        return self.complete

    @property
    def status(self) -> int:
        return int(self.parser.get_status_code())

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.complete = True


def request(job: Job, body: str) -> bytes:
    """One POST as it goes over the wire."""
    content = body.encode()
    head = (
        f"POST {job.path} HTTP/1.1\r\nHost: {job.host}:{job.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


if __name__ == "__main__":
    print(json.dumps(asdict(run(Job(**json.load(sys.stdin))))))
