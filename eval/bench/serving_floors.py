"""What the bare models of sentence-transformers do with the same requests, one after the other in this process."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.bench.timing import seconds as timed

Floor = Callable[[Sequence[str], float], float]
"""Bodies of requests and a time limit to the median seconds of one."""


def rerank_alone(model: Path, bodies: Sequence[str], limit: float) -> float:
    """``CrossEncoder.predict`` of each request's pairs."""
    from sentence_transformers import CrossEncoder

    bare = CrossEncoder(str(model), device="cpu", local_files_only=True)

    def predict(body: str) -> None:
        asked = json.loads(body)
        bare.predict([(asked["query"], text) for text in asked["documents"]], show_progress_bar=False)

    return _median(predict, bodies, limit)


def embed_alone(bodies: Sequence[str], limit: float) -> float:
    """``SentenceTransformer.encode`` of each request's text."""
    from sentence_transformers import SentenceTransformer

    from rag.encoders import SentenceEncoder

    bare = SentenceTransformer(SentenceEncoder().path, device="cpu", local_files_only=True)
    return _median(lambda body: bare.encode([json.loads(body)["input"]], show_progress_bar=False), bodies, limit)


def _median(work: Callable[[str], object], bodies: Sequence[str], limit: float) -> float:
    work(bodies[0])
    until, took = time.perf_counter() + limit, []
    for body in bodies:
        took.append(timed(lambda body=body: work(body)))  # type: ignore[misc]
        if time.perf_counter() > until:
            break
    return statistics.median(took)
