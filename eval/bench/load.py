"""A light HTTP load, run as a process of its own: ``python -m eval.bench.load`` with a Job as JSON on stdin.

Kept-alive sockets, one thread, one buffer and a parser in C: the client shares the machine's cores with the server.

Closed loop: a connection that has its answer sends the next body. Open loop: bodies are sent when they are due,
whatever the server does; the time of one counts from when it was due, so that waiting for a connection is counted too
(no coordinated omission: Tene, "How NOT to measure latency", 2013).
"""

from __future__ import annotations

import json
import math
import random
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from httptools import HttpParserError, HttpResponseParser


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Requests for one server: every body once, POSTed to ``path`` by ``clients`` connections at a time.

    due      seconds from the start at which the bodies are to be sent, ascending; none for a closed loop
    seconds  after which no further body is sent, 0 for no such end
    """

    host: str
    port: int
    path: str
    bodies: Sequence[str]
    clients: int
    due: Sequence[float] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a job: seconds of each answered request, how many failed or were refused with 429, the wall time."""

    seconds: Sequence[float]
    errors: int
    wall: float
    refused: int = 0

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return len(self.seconds) / self.wall if self.wall else 0.0

    def quantile(self, share: float) -> float:
        """Seconds within which that share of the answered requests was answered (nearest rank); inf without any."""
        ranked = sorted(self.seconds)
        return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else math.inf


def run_apart(job: Job) -> Load:
    """Run the job in another process, so that the client has its own interpreter lock."""
    command = [sys.executable, "-m", "eval.bench.load"]
    done = subprocess.run(command, input=json.dumps(asdict(job)), capture_output=True, text=True, check=True)  # noqa: S603
    return Load(**json.loads(done.stdout))


def run(job: Job) -> Load:
    """Run the job here. Anything but status 200 and 429 is an error, and so is a connection that breaks."""
    load = _Run(job)
    load.drive()
    return Load(load.seconds, load.errors, time.perf_counter() - load.started, load.refused)


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Ascending times within ``seconds`` at which requests arrive independently, ``rate`` a second on average."""
    chance, at, due = random.Random(seed), 0.0, []  # noqa: S311
    while (at := at + chance.expovariate(rate)) < seconds:
        due.append(at)
    return due


class _Run:
    """All clients of a job in one thread: whichever connection has an answer is read and given the next body."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.bodies = deque(request(job, body) for body in job.bodies)
        self.due = deque(job.due)
        self.seconds: list[float] = []
        self.errors = 0
        self.refused = 0
        self.idle: list[_Client] = []
        self.busy = 0
        self.selector = selectors.DefaultSelector()
        self.buffer = memoryview(bytearray(1 << 18))
        self.started = time.perf_counter()

    def drive(self) -> None:
        self._send()
        while self.busy or self.bodies:
            for key, _ in self.selector.select(self._pause()):
                self._read(key.data)
            self._send()
        for client in self.idle:
            self._close(client)

    def _pause(self) -> float | None:
        """Seconds until the next body is due, None where that depends on answers."""
        if not self.due or not self.bodies or self.busy >= self.job.clients:
            return None
        return max(0.0, self.started + self.due[0] - time.perf_counter())

    def _send(self) -> None:
        """What may be sent now: as many as there are clients, and in an open loop as many as are due."""
        now = time.perf_counter()
        if self.job.seconds and now - self.started > self.job.seconds:
            self.bodies.clear()
        while self.bodies and self.busy < self.job.clients:
            since = now
            if self.job.due:
                if self.started + self.due[0] > now:
                    return
                since = self.started + self.due.popleft()
            self._ask(self.bodies.popleft(), since)

    def _ask(self, asked: bytes, since: float) -> None:
        """Send on a connection that is free, or a new one; where nobody listens the request is an error."""
        try:
            client = self.idle.pop() if self.idle else self._connect()
            client.ask(asked, since)
            self.busy += 1
        except OSError:
            self.errors += 1

    def _connect(self) -> _Client:
        client = _Client(self.job)
        self.selector.register(client.socket, selectors.EVENT_READ, client)
        return client

    def _read(self, client: _Client) -> None:
        try:
            if not client.read(self.buffer):
                return
        except (OSError, EOFError, HttpParserError):  # a broken one costs the request it broke in
            if client in self.idle:
                self.idle.remove(client)
            else:
                self.errors += 1
                self.busy -= 1
            self._close(client)
            return
        self.busy -= 1
        self.idle.append(client)
        if client.status == 200:
            self.seconds.append(time.perf_counter() - client.since)
        elif client.status == 429:
            self.refused += 1
        else:
            self.errors += 1

    def _close(self, client: _Client) -> None:
        self.selector.unregister(client.socket)
        client.socket.close()


class _Client:
    """One kept-alive connection and the request it has under way."""

    def __init__(self, job: Job) -> None:
        self.socket = socket.create_connection((job.host, job.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, asked: bytes, since: float) -> None:
        """Send a request whose time counts from ``since``."""
        self.parser, self.complete, self.since = HttpResponseParser(self), False, since
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
