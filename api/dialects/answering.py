"""The way of a request whose work stops when its client leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from litestar.response.base import ASGIResponse

from api.service import JSON, Call, Connection, call_of, service_of
from api.waiting import while_connected


async def answering(request: Connection, work: Callable[[Call], Any]) -> ASGIResponse:
    """``work`` on a worker thread, its result as JSON. Raises Cancelled where nobody waits any more."""
    call = call_of(request, await request.body())
    encoded = await while_connected(request, service_of(request).workers, lambda: msgspec.json.encode(work(call)))
    return ASGIResponse(body=encoded, media_type=JSON)
