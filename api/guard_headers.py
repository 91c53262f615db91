"""Headers every response has: what a browser must not do with it, and what is left of a key's rate."""

from __future__ import annotations

from collections.abc import Mapping

from litestar.types import Message, Scope

PROTECTING: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
}

_ENCODED = [(name.encode(), value.encode()) for name, value in PROTECTING.items()]
_MORE = "kvasir_response_headers"


def add_headers(scope: Scope, headers: Mapping[str, str]) -> None:
    """The response to this request, an error too, will have them."""
    scope["state"].setdefault(_MORE, {}).update(headers)


async def send_protection(message: Message, scope: Scope) -> None:
    """Litestar's ``before_send`` hook; a header that the handler has set stays as it is."""
    if message["type"] != "http.response.start":
        return
    there = list(message.get("headers", ()))
    names = {name.lower() for name, _ in there}
    more: Mapping[str, str] = scope["state"].get(_MORE, {})
    there += [(name.lower().encode(), value.encode()) for name, value in more.items()]
    message["headers"] = there + [one for one in _ENCODED if one[0] not in names]
