"""One id a request: the client's own where it is sane, else a new one; it is returned as X-Request-ID."""

from __future__ import annotations

import re
import secrets
from typing import Any

from litestar.types import Message, Scope

_SANE = re.compile(rb"[A-Za-z0-9._:+=/-]{1,128}")
_KEY = "kvasir_request_id"


def request_id(scope: Scope) -> str:
    """The id of this request, the same however often it is asked for."""
    state: dict[str, Any] = scope["state"]
    known: str | None = state.get(_KEY)
    if known is None:
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        known = given.decode("ascii") if _SANE.fullmatch(given) else secrets.token_hex(8)
        state[_KEY] = known
    return known


async def send_request_id(message: Message, scope: Scope) -> None:
    """Litestar's ``before_send`` hook: every response says which request it answers."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id(scope).encode("ascii"))]
