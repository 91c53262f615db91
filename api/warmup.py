"""Warm-up: opens everything before the first question asks for it."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable

from api.schemas import Dependency
from indexes import jvm
from rag.assemble import Engine
from rag.errors import KvasirError

log = logging.getLogger(__name__)

COLLECTION = "collection "
"""What leads a collection's name in its entry."""


class Warmup:
    """Opens everything a first question would otherwise wait for, and notes how each went."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.entries: list[Dependency] = []
        self.finished = False
        self.usable = False

    def run(self) -> None:
        """Blocks for seconds: run it on a worker thread."""
        try:
            engine = self._engine
            jvm.configure(engine.settings.index.java_heap_mb)
            java = self._open("java", jvm.start)
            encoder = self._open("encoder", lambda: engine.encoder.encode_query("warm up"))
            for name in engine.home.names() if java else ():
                self._open(f"{COLLECTION}{name}", lambda name=name: self._open_collection(name))  # type: ignore[misc]
            gc.collect()
            gc.freeze()  # models and classes stay: the collector need not walk them again
            self.usable = java and encoder
        finally:
            self.finished = True

    def _open_collection(self, name: str) -> None:
        snapshot = self._engine.collection(name).snapshot()
        snapshot.check_encoder(self._engine.encoder)
        snapshot.search_sparse("warm up", 1)
        snapshot.search_dense(self._engine.encoder.encode_query("warm up"), 1)

    def _open(self, service: str, opens: Callable[[], object]) -> bool:
        started = time.perf_counter()
        problem = None
        try:
            opens()
        except KvasirError as error:
            problem = str(error).replace(str(self._engine.home.root), "$KVASIR_HOME")
            log.warning("warm-up: %s: %s", service, error)
        self.entries.append(entry(service, started, problem))
        return problem is None


def entry(service: str, started: float, problem: str | None) -> Dependency:
    """How one dependency fared since ``started``, a time.perf_counter reading."""
    latency = round((time.perf_counter() - started) * 1000, 3)
    return Dependency(service, "unhealthy" if problem else "healthy", latency, problem)
