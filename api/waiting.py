"""Work that nobody waits for any more is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from api.service import Connection
from api.workers import Workers
from rag.runtime.meter import Cancelled

T = TypeVar("T")


async def while_connected(request: Connection, workers: Workers, work: Callable[[], T]) -> T:
    """What ``work`` returns or raises, done on a worker thread; a language model in it stops when the client leaves.

    The body of the request has been read. Raises Overloaded; Cancelled where the client left.
    """
    done = workers.submit(work)
    left = asyncio.ensure_future(_left(request))
    both: set[asyncio.Future[Any]] = {done, left}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        raise Cancelled("the client went away")
    finally:
        left.cancel()
        done.cancel()


async def _left(request: Connection) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
