"""The mirror of an engine's prefix cache against a plain list of prompts, and prompts that are laid out by it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes.home import Home
from rag.assemble import Engine
from rag.config import settings_from
from rag.errors import GeneratorUnavailable
from rag.generation.prefix_tree import PrefixTree
from rag.generation.remote import Remote
from rag.values import Chunk, Context, Hit, Query, Ranking, ScoreKind, StageReport
from tests.contracts.openai_engine import OpenAiEngine

ITEMS = "abcde"
prompt = st.lists(st.sampled_from(ITEMS), max_size=6)


def shared(prompts: Sequence[Sequence[str]], items: Sequence[str]) -> int:
    """The plain twin: the longest beginning that any prompt has."""
    return max(
        (n for one in prompts for n in range(min(len(one), len(items)) + 1) if list(one[:n]) == list(items[:n])),
        default=0,
    )


@given(st.lists(prompt, max_size=8), prompt)
def test_the_longest_beginning_is_that_of_a_plain_search(prompts: list[list[str]], items: list[str]) -> None:
    tree = PrefixTree()
    for one in prompts:
        tree.add(one)
    assert tree.longest(items) == shared(prompts, items)
    assert len(tree) == len({tuple(one[:n]) for one in prompts for n in range(1, len(one) + 1)})


@given(st.lists(prompt, max_size=8), st.permutations(ITEMS), st.lists(st.integers(1, 9), min_size=5, max_size=5))
def test_no_order_has_a_heavier_known_beginning(prompts: list[list[str]], items: list[str], weights: list[int]) -> None:
    tree = PrefixTree()
    for one in prompts:
        tree.add(one)
    weight = dict(zip(items, weights, strict=True))
    heaviest = max(sum(weight[item] for item in order[: shared(prompts, order)]) for order in permutations(items))
    order = [items[i] for i in tree.best(items, weights)]
    known = tree.longest(order)
    assert sorted(order) == sorted(items)
    assert sum(weight[item] for item in order[:known]) == heaviest
    assert order[known:] == [item for item in items if item in order[known:]]
    equal = [o for o in permutations(items) if sum(weight[i] for i in o[: shared(prompts, o)]) == heaviest]
    first = min(equal, key=lambda o: [items.index(item) for item in o])
    assert order[:known] == list(first[: shared(prompts, first)])


@given(st.lists(prompt, min_size=1, max_size=30), st.integers(1, 8))
def test_the_tree_is_bounded_and_keeps_what_was_used_last(prompts: list[list[str]], capacity: int) -> None:
    tree = PrefixTree(capacity)
    for at, one in enumerate(prompts):
        tree.add(one)
        assert len(tree) <= capacity
        assert tree.longest(one) == min(len(one), capacity)
        assert all(tree.longest(other) <= shared(prompts[: at + 1], other) for other in prompts)


def test_the_end_of_the_oldest_prompt_leaves_first() -> None:
    tree = PrefixTree(4)
    tree.add("ab")
    tree.add("cd")
    tree.add("a")  # used again: b is the oldest now
    tree.add("ce")
    assert [tree.longest(one) for one in ("ab", "cd", "ce")] == [1, 2, 2]
    tree.add("x")
    assert [tree.longest(one) for one in ("a", "cd", "ce", "x")] == [1, 1, 2, 1]


def test_items_that_are_equal_are_taken_once_each() -> None:
    tree = PrefixTree()
    tree.add("bbb")
    assert tree.best("abb", [1, 1, 1]) == [1, 2, 0]
    assert tree.best("", []) == []


def test_threads_add_and_ask_at_once() -> None:
    tree = PrefixTree(50)

    def work(seed: int) -> None:
        for i in range(200):
            items = [str((seed * i + j) % 17) for j in range(5)]
            tree.add(items)
            tree.best(items, [1.0] * 5)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert len(tree) == 50


# --- prompts for engines ---


@pytest.fixture
def engine() -> Iterator[OpenAiEngine]:
    with OpenAiEngine() as running:
        yield running


def context(*texts: str) -> Context:
    hits = tuple(Hit(Chunk(text, text, text, 0, len(text)), 1.0 / n) for n, text in enumerate(texts, 1))
    report = StageReport("select", n_out=len(hits))
    return Context(hits, 100, 1000, Ranking(hits, ScoreKind.COSINE, report), report)


def sent(engine: OpenAiEngine) -> list[str]:
    """The sources of the last prompt, in order."""
    system, user = engine.requests[-1]["messages"]
    assert system["role"] == "system"
    assert user["content"].rindex("Question: ") > user["content"].rindex("[1]")  # the question comes last
    return re.findall(r"^\[\d+\] (.*)$", user["content"], flags=re.MULTILINE)


A, B, C = "The moon makes tides.", "Yeast makes dough rise.", "Puffins nest on cliffs."


def test_without_leave_no_order_changes_and_the_hit_is_told(engine: OpenAiEngine) -> None:
    remote = Remote(engine.config)
    assert remote.generate(Query("tides?"), context(A, B)).report.notes == ()
    answer = remote.generate(Query("tides and birds?"), context(A, C))
    assert sent(engine) == [A, C]
    (note,) = answer.report.notes
    whole = "".join(message["content"] for message in engine.requests[-1]["messages"])
    beginning = whole.index(f"[2] {C}")
    about = round(12 * beginning / len(whole))
    assert note == f"the prompt begins as an earlier one did: 1 of 2 sources, about {about} of 12 tokens"
    assert remote.generate(Query("tides?"), context(B, A)).report.notes == ()


def test_sources_that_began_a_prompt_go_first_and_citations_follow_them(engine: OpenAiEngine) -> None:
    remote = Remote(engine.config, reorder=True)
    remote.generate(Query("tides?"), context(A, B))
    answer = remote.generate(Query("dough?"), context(C, B, A))
    assert sent(engine) == [A, B, C]
    assert [hit.chunk.text for hit in answer.context.hits] == [A, B, C]
    assert [citation.number for citation in answer.citations] == [1]  # "[1]" is A now
    assert "2 of 3 sources" in answer.report.notes[0]


def test_a_prompt_that_failed_is_not_counted_on(engine: OpenAiEngine) -> None:
    remote = Remote(engine.config, reorder=True)
    engine.status = 503
    with pytest.raises(GeneratorUnavailable):
        remote.generate(Query("tides?"), context(A, B))
    engine.status = 200
    remote.generate(Query("tides?"), context(B, A))
    assert sent(engine) == [B, A]


def test_an_order_that_was_asked_for_is_kept(engine: OpenAiEngine, small_home: Home) -> None:
    table = {"base_url": engine.config.base_url, "model": "echo", "api_key_env": "KVASIR_NO_KEY"}
    settings = settings_from({"home": str(small_home.root), "remote": table | {"prefix_order": True}})
    made = Engine(settings)
    asked = [
        made.pipeline("small", "ask", {"generate": "remote", "order": o}) for o in ("score", "best-last", "document")
    ]
    generators = [one.generator for one in asked]
    assert [one.reorder for one in generators if isinstance(one, Remote)] == [True, False, False]
    assert len({id(one.sent) for one in generators if isinstance(one, Remote)}) == 1
    plain = Engine(replace(settings, remote=replace(settings.remote, prefix_order=False)))
    generator = plain.pipeline("small", "ask", {"generate": "remote"}).generator
    assert isinstance(generator, Remote)
    assert not generator.reorder
