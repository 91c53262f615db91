"""Who leaves first, and that memory and files agree on it."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rag.kv.disk import DiskStore
from rag.kv.eviction import Worth, priority
from rag.kv.key import chunk_key
from rag.kv.memory import MemoryStore
from tests.rag.kv.chunks import FINGERPRINT, value

KEYS = [chunk_key([n], FINGERPRINT) for n in range(1, 40)]


def test_worth_is_uses_times_cost_over_bytes_on_top_of_the_clock() -> None:
    assert priority(2.0, 3, 10.0, 100) == 2.0 + 3 * 10.0 / 100


def test_the_least_worthy_leaves_and_the_clock_moves_up_to_it() -> None:
    worth = Worth()
    worth.add("dear", 100, 50.0)  # 0.5
    worth.add("large", 1000, 100.0)  # 0.1
    worth.add("cheap", 100, 30.0)  # 0.3
    assert (worth.least(), worth.clock) == ("large", 0.1)
    worth.add("new", 100, 15.0)  # 0.1 + 0.15
    worth.use("new")  # 0.1 + 0.3
    assert [worth.least(), worth.least(), worth.least()] == ["cheap", "new", "dear"]
    assert (len(worth), worth.nbytes, worth.clock) == (0, 0, 0.5)


def test_among_equals_the_one_not_used_for_longest_leaves() -> None:
    worth = Worth()
    for key in "abc":
        worth.add(key, 10, 1.0)
    for key in "bac":
        worth.use(key)
    assert [worth.least() for _ in "abc"] == ["b", "a", "c"]


def test_what_was_used_often_once_leaves_in_the_end() -> None:
    worth = Worth()
    worth.add("old", 10, 10.0)
    for _ in range(5):
        worth.use("old")  # worth 6
    for n in range(20):
        worth.add(f"{n}", 10, 10.0)
        if worth.least() == "old":
            break
    else:
        raise AssertionError("an entry that nobody asks for stays for ever")
    assert n >= 5


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("auud"), st.integers(0, 9), st.integers(1, 50)), max_size=120))
def test_the_heap_agrees_with_looking_at_all(steps: list[tuple[str, int, int]]) -> None:
    worth, plain, turn, clock = Worth(), dict[str, tuple[float, int, int, int]](), 0, 0.0
    for what, name, nbytes in steps:
        key = str(name)
        if what == "a":
            turn += 1
            worth.add(key, nbytes, 7.0)
            plain[key] = (priority(clock, 1, 7.0, nbytes), turn, 1, nbytes)
        elif what == "u" and key in plain:
            turn += 1
            worth.use(key)
            uses, size = plain[key][2] + 1, plain[key][3]
            plain[key] = (priority(clock, uses, 7.0, size), turn, uses, size)
        elif what == "d" and plain:
            least = min(plain, key=lambda k: plain[k][:2])
            clock = plain.pop(least)[0]
            assert (worth.least(), worth.clock) == (least, clock)
        assert worth.nbytes == sum(entry[3] for entry in plain.values())


def test_memory_and_files_keep_the_same_entries(tmp_path: Path) -> None:
    memory, files = MemoryStore(5_000), DiskStore(tmp_path, 5_000)
    chance = random.Random(3)
    for _ in range(150):
        key = KEYS[min(int(chance.expovariate(0.15)), 38)]
        if memory.get(key) is None:
            memory.put(key, value(1, 400 + 30 * KEYS.index(key)), cost=float(len(key)))
        if files.get(key) is None:
            files.put(key, value(1, 400 + 30 * KEYS.index(key)), cost=float(len(key)))
        assert set(memory.keys()) == set(files.keys())
        assert memory.stats().nbytes == files.stats().nbytes <= 5_000
    assert memory.stats().evicted == files.stats().evicted > 20
    assert memory.stats().hits == files.stats().hits


def test_many_new_chunks_do_not_drive_out_what_is_asked_for_again_and_again() -> None:
    """500 questions: each reads one of ten steady chunks and one that never comes back."""
    store, misses = MemoryStore(20 * 1000), 0
    for question in range(500):
        for key in (f"steady {question % 10}", f"once {question}"):
            if store.get(key) is None:
                misses += key.startswith("steady") and question >= 100
                store.put(key, bytes(1000))
    assert misses == 0
    assert store.stats().nbytes == 20 * 1000
