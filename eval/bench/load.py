"""A light HTTP load, run as a process of its own: ``python -m eval.bench.load`` with a Job as JSON on stdin.

Raw asyncio streams with kept-alive connections, so that the client costs little beside the server.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass


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


async def run(job: Job) -> Load:
    """Run the job here. Anything but status 200 is an error, and so is a connection that breaks."""
    seconds: list[float] = []
    errors: list[str] = []
    waiting = iter(job.bodies)
    started = time.perf_counter()
    await asyncio.gather(*(_client(job, waiting, seconds, errors) for _ in range(job.clients)))
    return Load(seconds, len(errors), time.perf_counter() - started)


async def _client(job: Job, waiting: Iterator[str], seconds: list[float], errors: list[str]) -> None:
    """One connection after another for as long as there are bodies: a broken one costs the request it broke in."""
    for body in waiting:
        try:
            reader, writer = await asyncio.open_connection(job.host, job.port)
        except OSError as error:
            errors.append(str(error))
            continue
        try:
            await _ask(reader, writer, job, body, seconds, errors)
            for another in waiting:
                await _ask(reader, writer, job, another, seconds, errors)
        except (OSError, EOFError, ValueError) as error:
            errors.append(str(error))
        finally:
            writer.close()


async def _ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    job: Job,
    body: str,
    seconds: list[float],
    errors: list[str],
) -> None:
    started = time.perf_counter()
    writer.write(request(job, body))
    status = await read_answer(reader)
    if status == 200:
        seconds.append(time.perf_counter() - started)
    else:
        errors.append(f"status {status}")


def request(job: Job, body: str) -> bytes:
    """One POST as it goes over the wire."""
    content = body.encode()
    head = (
        f"POST {job.path} HTTP/1.1\r\nHost: {job.host}:{job.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Status of one answer, its body read to the end. Raises EOFError where the connection ends before that."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *fields = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.readexactly(int(headers.get("content-length", "0")))
    return int(status.split(" ")[1])


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run(Job(**json.load(sys.stdin)))))))
