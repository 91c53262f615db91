"""``kvasir mcp``: the tools over standard input and output, for one client that has started this process."""

from __future__ import annotations

import asyncio
import secrets

from mcp.server.stdio import stdio_server

from api.mcp.server import Asking, asking, mcp_server
from api.service import Call
from api.workers import Workers
from rag.assemble import Engine
from rag.config import Settings


def serve(settings: Settings) -> None:
    """Serve until standard input ends."""
    asyncio.run(_served(Engine(settings)))


async def _served(engine: Engine) -> None:
    server = engine.settings.server
    workers = Workers(server.threads, server.queue)
    workers.start()
    asking.set(Asking(lambda: Call(engine, b"", secrets.token_hex(8)), workers))
    server_side = mcp_server()
    try:
        async with stdio_server() as (reading, writing):
            await server_side.run(reading, writing, server_side.create_initialization_options())
    finally:
        await workers.close()
        engine.caching.close()
