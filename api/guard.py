"""Who gets in: the keys, what they may do, and how much of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from litestar.types import Scope

from api.access import Access
from api.errors import NotAllowed, NotAuthenticated, RateLimited
from api.guard_headers import add_headers
from api.guard_limits import Limits
from api.guard_origin import Headers, header, is_loopback
from rag.config import ServerConfig, Settings
from rag.errors import InvalidConfig
from rag.keys import Key, KeyFile, KeysDamaged, Ring

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often the file of the keys is looked at; a key that was revoked is refused after that at the latest."""


class Guard:
    """The keys of the home directory and the use that is made of them.

    ``closed``  requests need a key; where it is false, nothing else has to be looked at for other programs' requests
    """

    def __init__(self, settings: Settings) -> None:
        self.server: ServerConfig = settings.server
        self.ring = Ring(KeyFile(settings.home))
        self.limits = Limits()
        self.closed = False
        self.refresh()

    def refresh(self) -> None:
        """Take over what the file says now."""
        before = self.ring.trouble
        if self.ring.refresh():
            self.closed = self.ring.asked
            self.limits.keep(self.ring.ids)
        if self.ring.trouble and self.ring.trouble != before:
            log.error("nobody gets in: %s", self.ring.trouble)

    async def watch(self) -> None:
        """Runs beside the server until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.refresh()

    def admit(self, headers: Headers, access: Access) -> Key | None:
        """The key of a request, None for a route that needs none. Raises NotAuthenticated, NotAllowed."""
        if access == "open" or (access == "metrics" and self.server.open_metrics):
            return None
        if self.ring.trouble:
            raise KeysDamaged("the server's keys cannot be read; whoever runs it has to mend them")
        secret = _secret(headers)
        if not secret:
            raise NotAuthenticated(
                "this server asks for a key; send it as Authorization: Bearer kv_... or as X-API-Key: kv_..."
            )
        key = self.ring.find(secret)
        if key is None:
            raise NotAuthenticated("this key is unknown, revoked or expired; ask whoever runs the server for another")
        wanted = "read" if access in ("metrics", "open") else access
        if not key.may(wanted):  # type: ignore[arg-type]
            raise NotAllowed(f"this key may {key.scope}, and the request needs {wanted}; ask for another key")
        if access == "metrics" and key.tenant:
            raise NotAllowed(
                "metrics are of all tenants, and this key is of one; take a key of none, or set [server] open_metrics"
            )
        return key

    @contextmanager
    def held(self, key: Key, scope: Scope) -> Iterator[None]:
        """Counts the request against the key's limits while it lasts. Raises RateLimited."""
        bucket = self.limits.bucket(key)
        if not self.limits.enter(key):
            raise RateLimited(f"{key.concurrency} requests of this key are under way, the most it may have at once")
        try:
            if bucket is not None:
                taken = bucket.take()
                add_headers(scope, bucket.headers())
                if not taken:
                    raise RateLimited(f"more than {key.rate} requests of this key", retry_after=bucket.wait())
            yield
        finally:
            self.limits.leave(key)


def check_exposure(settings: Settings) -> None:
    """Raises InvalidConfig where a server without keys would be open to other machines and nobody said so."""
    server = settings.server
    if is_loopback(server.address) or server.open or KeyFile(settings.home).stamp() is not None:
        return
    raise InvalidConfig(
        f"host {server.address!r} lets other machines in, and no key is asked for: make one with "
        "kvasir keys create NAME --scope read, listen on 127.0.0.1, or set [server] open = true "
        "(KVASIR_SERVER__OPEN=true) where something else keeps strangers out"
    )


def _secret(headers: Headers) -> str:
    scheme, _, token = header(headers, b"authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else header(headers, b"x-api-key").strip()
