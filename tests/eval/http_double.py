"""A real HTTP server on the loopback that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Told:
    """``answers`` are (status, headers, body) in the order they are given, the last one again and again.

    paths, keys  what was asked, and with which Authorization;  delay  seconds before each answer
    """

    answers: list[tuple[int, dict[str, str], Any]]
    delay: float = 0.0
    url: str = ""
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def told(*answers: tuple[int, dict[str, str], Any], delay: float = 0.0) -> Iterator[Told]:
    """The server while the block lasts."""
    script = Told(list(answers), delay)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.paths.append(self.path)
            script.keys.append(self.headers.get("Authorization"))
            time.sleep(script.delay)
            status, headers, body = script.answers[min(len(script.paths), len(script.answers)) - 1]
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # a client that has not waited
                self.end_headers()
                self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
