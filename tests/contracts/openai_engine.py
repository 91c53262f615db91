"""A real HTTP server on the loopback that speaks OpenAI's streamed chat completions, as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from rag.config import RemoteConfig

DONE = b"data: [DONE]\n\n"


def piece(text: str, finish: str | None = None) -> bytes:
    event = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    return f"data: {json.dumps(event)}\n\n".encode()


def usage(prompt: int, completion: int) -> bytes:
    counted = {"prompt_tokens": prompt, "completion_tokens": completion}
    return f"data: {json.dumps({'choices': [], 'usage': counted})}\n\n".encode()


def completion(*texts: str) -> list[bytes]:
    """A whole answer as an engine sends it."""
    return [*(piece(text) for text in texts), piece("", "stop"), usage(12, 3), DONE]


class OpenAiEngine:
    """``status`` and ``lines`` are what it answers; ``requests`` and ``keys`` what it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.lines: Sequence[bytes] = completion("The lamp is seen ", "from afar [1].")
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(json.loads(body) | {"path": self.path})
                outer.keys.append(self.headers.get("Authorization"))
                self.send_response(outer.status)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for line in outer.lines:
                    self.wfile.write(line)
                    self.wfile.flush()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def config(self) -> RemoteConfig:
        port = self._server.server_address[1]
        return RemoteConfig(base_url=f"http://127.0.0.1:{port}/v1", model="echo", api_key_env="KVASIR_NO_KEY")

    def __enter__(self) -> OpenAiEngine:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
