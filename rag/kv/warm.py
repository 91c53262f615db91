"""Reading many chunks ahead of all questions: in batches of like length, stored while the next batch is read."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from rag.errors import CacheUnavailable, InvalidConfig
from rag.kv.cache import ChunkCache
from rag.kv.capture import read_chunks
from rag.kv.library import ChunkLibrary
from rag.kv.states import ChunkStates
from rag.runtime.meter import Meter

Ids = tuple[int, ...]
BATCH_TOKENS = 8192
Progress = Callable[[int, int], None]
"""(tokens done, tokens in all); what is there already counts as done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed:
    """What a warming did. ``there`` chunks were stored already, or by another worker meanwhile."""

    chunks: int
    there: int
    read: int
    tokens: int
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens read a second."""
        return self.tokens / self.seconds if self.seconds else 0.0


def warm(
    library: ChunkLibrary,
    passages: Sequence[Ids],
    meter: Meter,
    *,
    batch_tokens: int = BATCH_TOKENS,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Warmed:
    """Store the states of all passages that are not stored; stopped, the same call goes on where it was.

    batch_tokens  padded tokens that are read and stored together
    seed          the order of batches: workers with different seeds share the work, and only their last batches meet
    Raises InvalidConfig for a library that keeps nothing, CacheUnavailable where the store fails: what it has, it has.
    And where something is deleted from the store meanwhile: the passages may be of it, so nothing more is stored.
    """
    started = time.perf_counter()
    cache = library.cache
    if cache is None:
        raise InvalidConfig('nothing is kept with cache.store = "none"; choose files or redis')
    mark = cache.mark()
    wanted = sorted({ids for ids in passages if ids}, key=lambda ids: (len(ids), ids))
    total, done, read, tokens = sum(map(len, wanted)), 0, 0, 0
    batches = list(_batches(wanted, batch_tokens))
    random.Random(seed).shuffle(batches)  # noqa: S311 - an order, no secret
    progress(0, total)
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for batch in batches:
            missing = [ids for ids in batch if not cache.contains(ids)]
            if missing:
                prefix = library.beginning(library.lead, meter)[0]
                since = time.perf_counter()
                made = read_chunks(library.model, missing, meter, prefix=prefix)
                cost = 1e3 * (time.perf_counter() - since) / sum(map(len, missing))
                if written is not None:
                    written.result()
                written = writer.submit(_store, cache, made, cost, mark)
                read, tokens = read + len(missing), tokens + sum(map(len, missing))
            done += sum(map(len, batch))
            progress(done, total)
        if written is not None:
            written.result()
    return Warmed(
        chunks=len(wanted), there=len(wanted) - read, read=read, tokens=tokens, seconds=time.perf_counter() - started
    )


def _store(cache: ChunkCache, made: Sequence[ChunkStates], cost: float, mark: bytes) -> None:
    outdated = cache.mark() != mark
    if not outdated:
        _put(cache, made, cost)
        outdated = cache.take_back([cache.key(states.ids) for states in made], mark)
    if outdated:
        raise CacheUnavailable(
            "documents were deleted while passages were read ahead; what is stored stays, run it again for those left"
        )


def _put(cache: ChunkCache, made: Sequence[ChunkStates], cost: float) -> None:
    before = cache.troubles[0]
    for states in made:
        kept = cache.put(states, cost=cost * len(states.ids))
        failed, why = cache.troubles
        if failed > before:
            raise CacheUnavailable(f"{why}; what is stored stays, run it again when the store answers")
        if not kept:
            raise CacheUnavailable(
                f"the store takes no value of {states.nbytes} bytes; raise disk_mb or memory_mb in [cache]"
            )


def _batches(wanted: Sequence[Ids], limit: int) -> Iterator[list[Ids]]:
    """Passages in the order given, which is by length, as many as fit when padded to the longest."""
    batch: list[Ids] = []
    for ids in wanted:
        if batch and (len(batch) + 1) * len(ids) > limit:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch
