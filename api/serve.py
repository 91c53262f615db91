"""Runs the application on uvicorn: loopback unless the settings say otherwise, and a shutdown that loses nothing."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from api import logs
from api.app import create_app
from api.arrival import expire
from api.direct import Direct
from api.guard import check_exposure
from api.processes import bound, supervise
from rag.assemble import Engine
from rag.config import ServerConfig, Settings

log = logging.getLogger(__name__)


def announced(line: str) -> None:
    """The one line a person at the terminal sees."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Server(uvicorn.Server):
    """Says where it listens once it does, closes what never arrives, and is not ready before it stops listening."""

    def __init__(self, config: uvicorn.Config, chosen: ServerConfig, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._chosen = chosen
        self._announce = announce
        self.url = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            self._announce(f"Kvasir listens on {self.url} (OpenAPI: {self.url}/schema)")

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            expire(self.server_state.connections, self._chosen.arrival_seconds)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Whoever asks /ready is told first; then no new connection is taken, and what is under way is finished."""
        app: Any = self.config.app
        app.state.service.draining = True
        await asyncio.sleep(self._chosen.unready_ms / 1e3)
        await super().shutdown(sockets)


def server(engine: Engine, announce: Callable[[str], None] = announced) -> Server:
    """A server that is not running yet."""
    chosen: ServerConfig = engine.settings.server
    config = uvicorn.Config(
        create_app(engine),
        host=chosen.host,
        port=chosen.port,
        loop="uvloop",
        http=Direct,
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        log_config=LOGGING_CONFIG if chosen.log == "off" else None,  # its own would close our handlers
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(chosen.drain_seconds),
    )
    return Server(config, chosen, announce)


def serve(settings: Settings, announce: Callable[[str], None] = announced) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are finished first.

    Raises InvalidConfig for an address beyond this machine where nobody needs a key, and for one that is not free.
    """
    check_exposure(settings)
    if settings.server.processes > 1:
        supervise(settings, announce)
    else:
        run(settings, announce, [bound(settings.server)])


def run(settings: Settings, announce: Callable[[str], None], sockets: list[socket.socket]) -> None:
    """Serve in this process, on sockets that are bound."""
    lines = logs.begin(settings.server)
    try:
        server(Engine(settings), announce).run(sockets)
    finally:
        logs.end(lines)
