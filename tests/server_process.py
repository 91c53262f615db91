"""``kvasir serve`` as a process of its own, which a test may end in any way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]
_LISTENS = re.compile(r"listens on (http://127\.0\.0\.1:\d+)")


class ServerProcess:
    """A server over a home directory on a free port; ``log`` holds what all of its runs wrote."""

    def __init__(self, home: Path, log: Path, environ: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._environ = os.environ | {"KVASIR_HOME": str(home), "KVASIR_SERVER__PORT": "0"} | dict(environ or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        before = len(self.log.read_text()) if self.log.exists() else 0
        with self.log.open("ab") as written:
            command = [sys.executable, "-c", "from rag.cli import main; main()", "serve"]
            self.process = subprocess.Popen(
                command, env=self._environ, stdout=written, stderr=subprocess.STDOUT, cwd=ROOT
            )
        for _ in range(1200):
            if found := _LISTENS.search(self.log.read_text()[before:]):
                self.url = found[1]
                return
            assert self.process.poll() is None, self.log.read_text()[before:]
            time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """As a machine that loses its power ends it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        """As a service manager ends it; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise
