"""A job as server-sent events. The disk is asked, so it does not matter which process works on the job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from api.jobs.schemas import view_of
from rag.jobs.record import Job
from rag.jobs.store import JobNotFound

LOOK_SECONDS = 0.25
BEAT_SECONDS = 10.0
"""A comment that often, so that nobody between takes the connection for dead."""


async def events(look: Callable[[], Job], seen: int, ends: Callable[[], bool]) -> AsyncIterator[bytes]:
    """An event for every change that is seen, from revision ``seen`` on, and one for the end.

    look  the job as it is now; raises JobNotFound
    ends  true once the server does; the client comes back with the last id it has and misses nothing
    """
    said = time.monotonic()
    while not ends():
        try:
            job = await asyncio.to_thread(look)
        except JobNotFound:  # forgotten meanwhile
            return
        if job.over:
            yield event("end", job)
            return
        if job.revision > seen:
            seen, said = job.revision, time.monotonic()
            yield event("progress", job)
        elif time.monotonic() - said >= BEAT_SECONDS:
            said = time.monotonic()
            yield b": still there\n\n"
        await asyncio.sleep(LOOK_SECONDS)


def event(name: str, job: Job) -> bytes:
    data = msgspec.json.encode(view_of(job))
    return f"id: {job.revision}\nevent: {name}\ndata: ".encode() + data + b"\n\n"
