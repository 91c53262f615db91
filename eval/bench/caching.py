"""What cached chunk states save: time to the first token, attention reranking, and the way from the store.

Weights are random, of a real model's shape: time, tokens and bytes are real, answers mean nothing.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from eval.bench.figures import Figure
from eval.bench.redis_server import redis_url
from eval.bench.reranking import CALIBRATION, QUERY, TOKENS
from eval.bench.shapes import flops, random_model
from eval.bench.timing import seconds
from rag.kv.behind import attention_behind, logits_behind
from rag.kv.capture import read_chunks
from rag.kv.compose import Composed, compose
from rag.kv.disk import DiskStore
from rag.kv.library import ChunkLibrary
from rag.kv.loading import LoadCosts
from rag.kv.memory import MemoryStore
from rag.kv.modes import Mode, parse_mode
from rag.kv.redis import RedisStore
from rag.kv.store import ChunkCacheStore
from rag.kv.warm import warm
from rag.language_model import LanguageModel
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Segment

Ids = tuple[int, ...]
CHUNKS, CHUNK_TOKENS, QUESTION = 16, 256, 32
RANKED = 100
LEAD = 12
"""Tokens of the beginning behind which every chunk is read."""
ROOM = 2**36
WORDS = 255
"""Random tokens are below it."""


def caching(shape: str, repeats: int) -> Iterator[Figure]:
    """Every figure for one shape. Raises InvalidInput for an unknown one."""
    model = random_model(shape)
    lead = _tokens(1, LEAD)
    chunks = [_tokens(10 + i, CHUNK_TOKENS) for i in range(CHUNKS)]
    with tempfile.TemporaryDirectory() as folder, redis_url() as url:
        memory = _library(model, lead, MemoryStore(ROOM))
        yield _warming(model, memory, lead, chunks)
        stores = [("memory", memory)]
        files = _library(model, lead, DiskStore(Path(folder), ROOM))
        warm(files, chunks, Meter())
        stores.append(("files", files))
        if url is not None:
            redis = _library(model, lead, RedisStore(url))
            warm(redis, chunks, Meter())
            stores.append(("redis", redis))
        yield from _first_token(model, lead, chunks, stores, repeats)
        for name, library in stores[1:]:
            yield _choice(name, library, lead, chunks)
        if url is not None:
            yield from _loading(model, lead, chunks, url, repeats)
        yield from _ranking(model, lead, memory, repeats)


def _library(model: LanguageModel, lead: Ids, store: ChunkCacheStore) -> ChunkLibrary:
    return ChunkLibrary(model, lambda _: lead, store)


def _tokens(seed: int, count: int) -> Ids:
    chance = random.Random(seed)  # noqa: S311
    return tuple(chance.randrange(WORDS) for _ in range(count))


def _warming(model: LanguageModel, library: ChunkLibrary, lead: Ids, chunks: Sequence[Ids]) -> Figure:
    """Reading and storing beside reading alone; both in turns of half the chunks, so that neither is first."""
    prefix = library.beginning(lead, Meter())[0]
    half = len(chunks) // 2
    bare = seconds(lambda: read_chunks(model, chunks[:half], Meter(), prefix=prefix))
    stored = seconds(lambda: warm(library, chunks, Meter()))
    bare += seconds(lambda: read_chunks(model, chunks[half:], Meter(), prefix=prefix))
    tokens = sum(map(len, chunks))
    return Figure(
        name="warm, beside bare batched prefill",
        measured=tokens / stored,
        baseline=tokens / bare,
        unit="tokens/s",
        target=0.8,
        at_least=True,
        note=f"{len(chunks)} chunks of {CHUNK_TOKENS} tokens into memory",
    )


# --- time to the first token ---


def _first_token(
    model: LanguageModel,
    lead: Ids,
    chunks: Sequence[Ids],
    stores: Sequence[tuple[str, ChunkLibrary]],
    repeats: int,
) -> Iterator[Figure]:
    question = _tokens(3, QUESTION)
    whole = (*lead, *(token for ids in chunks for token in ids), *question)
    full = statistics.median(seconds(lambda: _prefill(model, whole)) for _ in range(max(1, repeats // 3)))
    for name, library in stores:
        for mode, target in ((parse_mode("independent"), 10.0), (parse_mode("link-16"), 5.0)):
            _first(library, lead, chunks, question, mode)
            took = [seconds(lambda: _first(library, lead, chunks, question, mode)) for _ in range(repeats)]  # noqa: B023
            again = 0 if str(mode) == "independent" else 16 * len(chunks)
            needed = flops(model, again + len(question), past=len(whole) - len(question))
            yield Figure(
                name=f"first token, {name}, {mode}",
                measured=full / statistics.median(took),
                unit="x",
                relation="value",
                target=target,
                at_least=True,
                note=f"{statistics.median(took):.2f} s; full prefill of {len(whole)} tokens {full:.2f} s, "
                f"{flops(model, len(whole)) / 1e9:.0f} GFLOP; {needed / 1e9:.0f} GFLOP are left to do",
            )


def _prefill(model: LanguageModel, ids: Ids) -> None:
    """All tokens and the logits of the last, by the runtime itself."""
    composed = compose(model, ids[:-1], [], parse_mode("full"), Meter(), room=1)
    logits_behind(model, composed, ids[-1:], Meter())


def _first(library: ChunkLibrary, lead: Ids, chunks: Sequence[Ids], question: Ids, mode: Mode) -> None:
    """From the store to the logits behind the question."""
    composed = _composed(library, lead, chunks, mode, len(question))
    logits_behind(library.model, composed, question, Meter())


def _composed(library: ChunkLibrary, lead: Ids, chunks: Sequence[Ids], mode: Mode, room: int) -> Composed:
    found = library.find(chunks, Meter())
    beginning = library.beginning(lead, Meter())[0]
    return compose(library.model, beginning, [found.states[ids] for ids in chunks], mode, Meter(), room=room)


# --- loading or reading ---


def _choice(name: str, library: ChunkLibrary, lead: Ids, chunks: Sequence[Ids]) -> Figure:
    """Whether what is chosen by two earlier chunks is the faster for the others, which are then timed both ways."""
    costs, prefix = LoadCosts(), library.beginning(lead, Meter())[0]
    store = library.store
    assert store is not None
    chooser = ChunkLibrary(library.model, lambda _: lead, store, costs=costs)
    chooser.find(chunks[:1], Meter())
    costs.read(len(chunks[1]), seconds(lambda: read_chunks(library.model, chunks[1:2], Meter(), prefix=prefix)))
    rest = chunks[2:]
    chosen = costs.worth(store.name, len(rest[0]))
    loading = seconds(lambda: library.find(rest, Meter())) / len(rest)
    reading = seconds(lambda: read_chunks(library.model, rest[:2], Meter(), prefix=prefix)) / len(rest[:2])
    kept = library.cache
    assert kept is not None
    nbytes = len(store.get(kept.key(rest[0])) or b"")
    return Figure(
        name=f"load or read, {name}: seconds of the other way beside the chosen",
        measured=(reading / loading) if chosen else (loading / reading),
        unit="x",
        relation="value",
        target=1.0,
        at_least=True,
        note=f"chosen: {'load' if chosen else 'read'}; {loading:.3f} s to load a chunk at {nbytes / loading / 1e9:.2f} "
        f"GB/s, {reading:.3f} s to read it; break-even {nbytes / reading / 1e9:.3f} GB/s",
    )


# --- the way from Redis ---


def _loading(model: LanguageModel, lead: Ids, chunks: Sequence[Ids], url: str, repeats: int) -> Iterator[Figure]:
    """Stored bytes a second beside a bare GET, and 8 bits beside 16, checked and decoded."""
    import redis

    store = RedisStore(url)
    plain = ChunkLibrary(model, lambda _: lead, store, "bf16")
    small = ChunkLibrary(model, lambda _: lead, store, "int8")
    warm(plain, chunks, Meter())
    warm(small, chunks, Meter())
    kept, narrow_kept = plain.cache, small.cache
    assert kept is not None
    assert narrow_kept is not None
    keys = [kept.key(ids) for ids in chunks]
    client = redis.Redis.from_url(url)
    size = sum(len(value) for value in store.get_many(keys) if value is not None)
    bare, ours = _in_turns(repeats, lambda: [client.get(key) for key in keys], lambda: [store.get(key) for key in keys])
    yield Figure(
        name="redis, beside a bare GET",
        measured=size / ours / 1e9,
        baseline=size / bare / 1e9,
        unit="GB/s",
        target=0.7,
        at_least=True,
        note=f"{len(keys)} values of {size / len(keys) / 2**20:.2f} MiB, redis-py with hiredis",
    )
    wide, narrow = _in_turns(repeats, lambda: kept.get_many(chunks), lambda: narrow_kept.get_many(chunks))
    yield Figure(
        name="redis, int8 beside bf16, loaded and decoded",
        measured=narrow * 1e3,
        baseline=wide * 1e3,
        unit="ms",
        target=1.0,
        note=f"{len(chunks)} chunks of {CHUNK_TOKENS} tokens",
    )
    client.close()
    store.close()


def _in_turns(repeats: int, one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """Medians of both, after one round that is not counted."""
    first, second = [], []
    for _ in range(3 * repeats + 1):
        first.append(seconds(one))
        second.append(seconds(other))
    return statistics.median(first[1:]), statistics.median(second[1:])


# --- attention reranking ---


def _ranking(model: LanguageModel, lead: Ids, library: ChunkLibrary, repeats: int) -> Iterator[Figure]:
    """ICR over RANKED chunks of TOKENS tokens: query and N/A behind composed states, beside the whole prompt.

    A separator of one token stands behind each chunk and is computed in place.
    """
    chunks = [_tokens(1000 + i, TOKENS) for i in range(RANKED)]
    warm(library, chunks, Meter())
    ends, separator = [_tokens(5, QUERY), _tokens(6, CALIBRATION)], (WORDS,)
    prompt = Prompt((Segment((*lead, *(token for ids in chunks for token in (*ids, *separator)))),))
    suffixes = [Prompt((Segment(ids),)) for ids in ends]

    def cached(meter: Meter) -> None:
        found = library.find(chunks, meter)
        beginning = library.beginning(lead, meter)[0]
        pieces = [piece for ids in chunks for piece in (found.states[ids], separator)]
        composed = compose(model, beginning, pieces, parse_mode("independent"), meter, room=max(map(len, ends)))
        attention_behind(model, composed, ends, meter)

    alone, reused = Meter(), Meter()
    full = seconds(lambda: model.attention(prompt, suffixes, alone))
    cached(reused)
    yield Figure(
        name=f"icr {RANKED} x {TOKENS} from the cache, fewer tokens",
        measured=alone.prefill / reused.prefill,
        unit="x",
        relation="value",
        target=20.0,
        at_least=True,
        note=f"{reused.prefill} tokens computed, {alone.prefill} without the cache",
    )
    took = statistics.median(seconds(lambda: cached(Meter())) for _ in range(repeats))
    yield Figure(
        name=f"icr {RANKED} x {TOKENS} from the cache, less time",
        measured=full / took,
        unit="x",
        relation="value",
        target=10.0,
        at_least=True,
        note=f"{took:.2f} s; {full:.2f} s without the cache",
    )
