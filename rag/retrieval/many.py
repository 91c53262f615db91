"""Many queries at once: a fixed pool of threads, because Lucene and FAISS leave Python's lock while they search."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from rag.values import Query, Ranking


@cache
def _pool() -> ThreadPoolExecutor:
    """One for the process: each thread that has called Java stays attached to it."""
    return ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="retrieve-many")


def retrieve_many(retrieve: Callable[[Query, int], Ranking], queries: Sequence[Query], k: int) -> list[Ranking]:
    """``retrieve`` for each query, in the order of the queries. Not to be called from inside the pool."""
    return list(_pool().map(lambda query: retrieve(query, k), queries))
