"""What one process deletes leaves the memory of the others: over files and over Redis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rag.errors import CacheUnavailable
from rag.kv.disk import DiskStore
from rag.kv.forgetting import forget_beginnings
from rag.kv.key import chunk_key
from rag.kv.library import ChunkLibrary
from rag.kv.memory import MemoryStore
from rag.kv.modes import parse_mode
from rag.kv.reader import CachedReader
from rag.kv.redis import RedisStore
from rag.kv.store import ChunkCacheStore, SharedStore, Value
from rag.kv.tiered import TieredStore
from rag.kv.warm import warm
from rag.reranking.icr import lead_of
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Role, Segment
from tests.rag.kv.chunks import FINGERPRINT, value
from tests.rag.kv.models import model_of, tokens
from tests.redis_server import RedisServer
from tests.tiny_models import one_thread

__all__ = ["one_thread"]
KEY, OTHER = (chunk_key([n], FINGERPRINT) for n in (1, 2))
Process = Callable[[], TieredStore]
"""Opens the tiers as a process of its own does: memory in front of what all share."""


@pytest.fixture(params=["files", "redis"])
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    if request.param == "files":
        yield lambda: TieredStore([MemoryStore(10**7), DiskStore(tmp_path / "states", 10**8)])
        return
    with RedisServer() as server:
        yield lambda: TieredStore([MemoryStore(10**7), RedisStore(server.url, timeout=2, interval=0)])


def test_what_another_deleted_is_gone_from_memory_at_the_next_look(process: Process) -> None:
    one, other = process(), process()
    one.put(KEY, value(1))
    one.put(OTHER, value(2))
    assert other.get_many([KEY, OTHER]) == [value(1), value(2)]
    assert other.tiers[0].contains(KEY)
    one.delete([KEY])
    assert other.get_many([KEY, OTHER]) == [None, value(2)]
    assert not other.tiers[0].contains(KEY)
    assert one.get(OTHER) == value(2)
    assert set(one.keys()) == {OTHER}  # the mark is no value


def test_what_only_memory_elsewhere_has_is_forgotten_too(process: Process) -> None:
    one, other = process(), process()
    ids = (1,)
    other.put(KEY, value(1))
    assert other.get(KEY) == value(1)
    other.tiers[1].delete([KEY])  # as where the shared tier has evicted it
    assert other.get(KEY) == value(1)
    assert forget_beginnings(one, [ids]) == 0
    assert other.get(KEY) is None


def test_memory_is_kept_while_nothing_is_deleted(process: Process) -> None:
    one, other = process(), process()
    one.put(KEY, value(1))
    other.get(KEY)
    one.put(OTHER, value(2))
    hits = other.tiers[0].stats().hits
    assert other.get(KEY) == value(1)
    assert other.tiers[0].stats().hits == hits + 1


class Meanwhile:
    """A shared tier where something happens between the read of a value and its return."""

    def __init__(self, tier: ChunkCacheStore) -> None:
        self._tier = tier
        self.then: Callable[[], None] = lambda: None

    def get_many(self, keys: Sequence[str]) -> list[Value | None]:
        found = self._tier.get_many(keys)
        self.then()
        return found

    def __getattr__(self, name: str) -> object:
        return getattr(self._tier, name)


def test_a_value_that_is_deleted_on_its_way_is_not_put_into_memory(process: Process) -> None:
    one, below = process(), Meanwhile(process().tiers[1])
    other = TieredStore([MemoryStore(10**7), below])  # type: ignore[list-item]
    assert isinstance(below, SharedStore)
    one.put(KEY, value(1))

    def deleted_and_looked_at() -> None:
        below.then = lambda: None
        one.delete([KEY])
        other.get(OTHER)  # another thread, which sees the new generation first

    below.then = deleted_and_looked_at
    assert other.get(KEY) == value(1)  # asked for before the deletion
    assert other.get(KEY) is None
    assert not other.tiers[0].contains(KEY)


def test_libraries_forget_what_another_has_deleted(process: Process) -> None:
    chunks = tokens(20, 12)
    stores = [process(), process()]
    one, other = (ChunkLibrary(model_of(), lead_of, store, "fp32") for store in stores)
    one.find(chunks, Meter())
    assert not other.find(chunks, Meter()).read
    forget_beginnings(stores[0], chunks[:1])
    assert other.find(chunks, Meter()).read == frozenset(chunks[:1])


SCRIPT = """
import sys
from pathlib import Path
from rag.kv.disk import DiskStore
from rag.kv.memory import MemoryStore
from rag.kv.tiered import TieredStore
store = TieredStore([MemoryStore(10**7), DiskStore(Path(sys.argv[1]), 10**8)])
for line in sys.stdin:
    print(store.get(line.strip()) is not None, flush=True)
"""


def test_another_process_forgets(tmp_path: Path) -> None:
    mine = TieredStore([MemoryStore(10**7), DiskStore(tmp_path / "states", 10**8)])
    mine.put(KEY, value(1))
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "states")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def there() -> str:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{KEY}\n")
            child.stdin.flush()
            return child.stdout.readline().strip()

        assert [there(), there()] == ["True", "True"]
        mine.delete([KEY])
        assert there() == "False"
        child.stdin.close()


def test_a_deletion_that_nobody_can_hear_of_is_an_error() -> None:
    with RedisServer() as server:
        store = TieredStore([MemoryStore(10**7), RedisStore(server.url, timeout=1, interval=0)])
        store.put(KEY, value(1))
        server.stop()
        assert store.get(KEY) == value(1)  # the copy, while nobody can say that it was deleted
        with pytest.raises(CacheUnavailable, match="delete again"):
            store.outdate()
        with pytest.raises(CacheUnavailable, match="delete again"):
            store.delete([KEY])
        assert store.get(KEY) is None


# --- requests under way ---


def deleting(library: ChunkLibrary, step: str, forget: Callable[[], object]) -> None:
    """Has ``forget`` run once within a request of the library: when it has read, or when it has stored."""
    cache = library.cache
    assert cache is not None
    whole: Any = getattr(library if step == "_read" else cache, step)
    left = [forget]

    def with_deletion(*args: Any, **named: Any) -> Any:
        result = whole(*args, **named)
        if left:
            left.pop()()
        return result

    setattr(library if step == "_read" else cache, step, with_deletion)


@pytest.mark.parametrize("step", ["_read", "keep"])
@pytest.mark.parametrize("where", ["bare", "here", "elsewhere"])
def test_a_request_under_way_does_not_store_what_is_deleted_meanwhile(process: Process, step: str, where: str) -> None:
    chunks = tokens(20, 12)
    mine: ChunkCacheStore = MemoryStore(10**7) if where == "bare" else process()
    others = process() if where == "elsewhere" else mine
    others.put(KEY, value(1))
    library = ChunkLibrary(model_of(), lead_of, mine, "bf16")
    deleting(library, step, lambda: forget_beginnings(others, chunks[:1]))
    found, kept = library.find(chunks, Meter()), library.cache
    assert kept is not None
    assert found.read == frozenset(chunks)
    assert found.states[chunks[0]].rounded == "bf16"  # as if it were stored
    assert set(mine.keys("kv")) == {KEY}
    library.find(chunks[1:], Meter())
    assert kept.contains(chunks[1])
    assert not library.find(chunks[1:], Meter()).read


@pytest.mark.parametrize("step", ["load", "keep"])
def test_variants_that_are_read_while_a_passage_is_deleted_are_not_kept(process: Process, step: str) -> None:
    store, others = process(), process()
    gone, one, other = tokens(20, 12, 9)
    library = ChunkLibrary(model_of(), lead_of, store, "fp32", variants=2)
    reader, slots = CachedReader(library, parse_mode("craft")), library.slots
    assert slots is not None
    parts = [Segment(ids, Role.PASSAGE) for ids in (gone, one, other)]
    prompt, question = Prompt((Segment(library.lead), *parts)), [Prompt((Segment((7, 8)),))]
    library.find([gone, one, other], Meter())
    whole: Any = getattr(slots, step)

    def with_deletion(*args: Any, **named: Any) -> Any:
        forget_beginnings(others, [gone])
        return whole(*args, **named)

    setattr(slots, step, with_deletion)
    reader.attention(prompt, question, Meter())
    assert slots.contexts([one, other]) == {one: {}, other: {}}


def test_reading_ahead_stops_where_something_is_deleted_meanwhile(process: Process) -> None:
    store, others, chunks = process(), process(), tokens(20, 12, 9)
    library = ChunkLibrary(model_of(), lead_of, store, "fp32")
    assert library.cache is not None

    def progress(done: int, total: int) -> None:
        if done == 0:
            forget_beginnings(others, chunks[:1])

    with pytest.raises(CacheUnavailable, match="deleted while"):
        warm(library, chunks, Meter(), progress=progress)
    assert not library.cache.contains(chunks[0])
    assert warm(library, chunks[1:], Meter()).read == 2
