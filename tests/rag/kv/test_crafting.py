"""Variants in prompts: read in place once, chosen by what they leave to compute, and the model's own in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from rag.kv.attended import read_variants
from rag.kv.compose import compose
from rag.kv.craft import Between, Context, cfo, share, wanting
from rag.kv.disk import DiskStore
from rag.kv.forgetting import forget_beginnings
from rag.kv.in_place import InPlace
from rag.kv.key import token_hash
from rag.kv.library import ChunkLibrary
from rag.kv.memory import MemoryStore
from rag.kv.modes import parse_mode
from rag.kv.plan import Chunk, pieces_of
from rag.kv.quantize import Scheme
from rag.kv.reader import CachedReader
from rag.kv.redis import RedisStore
from rag.kv.slots import VariantSlots, partner
from rag.kv.store import ChunkCacheStore
from rag.kv.tiered import TieredStore
from rag.reranking.attention import AttentionReranker, _Work
from rag.reranking.given import Passage, as_given
from rag.reranking.icr import lead_of
from rag.runtime.meter import Limits, Meter
from rag.runtime.prompt import Prompt, Role, Segment
from rag.values import Query
from tests.rag.kv.models import Ids, model_of, read, tokens
from tests.redis_server import RedisServer
from tests.tiny_models import QUERY, TEXTS, one_thread

__all__ = ["one_thread"]
LARGE = 10**8
P1, P2, P3, P4, P5 = tokens(14, 9, 17, 6, 11, seed=3)
SEPARATOR, QUESTION = tokens(2, 5, seed=4)


def reader_of(
    store: ChunkCacheStore | None = None,
    variants: int = 3,
    mode: str = "craft",
    family: str = "llama",
    scheme: Scheme = "fp32",
) -> CachedReader:
    library = ChunkLibrary(model_of(family), lead_of, store or MemoryStore(LARGE), scheme, variants=variants)
    return CachedReader(library, parse_mode(mode))


def prompt_of(reader: CachedReader, passages: Sequence[Ids], head: Ids | None = None) -> Prompt:
    parts = [Segment(head or reader.library.lead)]
    for ids in passages:
        parts += [Segment(ids, Role.PASSAGE), Segment(SEPARATOR)]
    return Prompt(tuple(parts))


def asked(reader: CachedReader, passages: Sequence[Ids], meter: Meter | None = None) -> np.ndarray:
    prompt = prompt_of(reader, passages)
    return reader.attention(prompt, [Prompt((Segment(QUESTION),))], meter or Meter())[0]


def own(reader: CachedReader, passages: Sequence[Ids]) -> np.ndarray:
    return reader.model.attention(prompt_of(reader, passages), [Prompt((Segment(QUESTION),))], Meter())[0]


def beside(passages: Sequence[Ids]) -> int:
    """Tokens that are computed for every question: its own, and what stands between passages."""
    return len(QUESTION) + len(passages) * len(SEPARATOR)


def slots_of(reader: CachedReader) -> VariantSlots:
    slots = reader.library.slots
    assert slots is not None
    return slots


def contexts(reader: CachedReader, ids: Ids) -> dict[int, Context]:
    return slots_of(reader).contexts([ids])[ids]


def names(*passages: Ids) -> tuple[str, ...]:
    return tuple(map(token_hash, passages))


@pytest.fixture(params=["memory", "files", "redis", "memory+redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChunkCacheStore]:
    if request.param in ("memory", "files"):
        yield MemoryStore(LARGE) if request.param == "memory" else DiskStore(tmp_path, LARGE)
        return
    with RedisServer() as server:
        redis = RedisStore(server.url, timeout=10)
        yield redis if request.param == "redis" else TieredStore([MemoryStore(LARGE), redis])
        redis.close()


# --- the second time ---


def test_the_same_list_again_computes_the_question_and_is_the_models_own(store: ChunkCacheStore) -> None:
    passages = [P1, P2, P3]
    reader, cold, warm = reader_of(store), Meter(), Meter()
    wanted = own(reader, passages)
    np.testing.assert_allclose(asked(reader, passages, cold), wanted, atol=1e-5)
    np.testing.assert_allclose(asked(reader, passages, warm), wanted, atol=1e-5)
    lead = len(reader.library.lead)
    assert cold.prefill == lead + sum(map(len, passages)) + beside(passages)
    assert warm.prefill == beside(passages)
    assert (cold.reuse.reused, warm.reuse.reused) == (0, lead + sum(map(len, passages)))
    other, third = reader_of(store), Meter()  # another process
    np.testing.assert_allclose(asked(other, passages, third), wanted, atol=1e-5)
    assert third.prefill == lead + beside(passages)


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
def test_other_families_have_their_variants_back(family: str) -> None:
    reader = reader_of(family=family)
    wanted = own(reader, [P1, P2, P3])
    for _ in ("cold", "warm"):
        np.testing.assert_allclose(asked(reader, [P1, P2, P3]), wanted, atol=1e-5)


@pytest.mark.parametrize(("scheme", "close"), [("bf16", 0.05), ("int8", 0.1)])
def test_rounded_variants_are_near_and_named(scheme: Scheme, close: float) -> None:
    reader, warm = reader_of(scheme=scheme), Meter()
    asked(reader, [P1, P2, P3])
    wanted, found = own(reader, [P1, P2, P3]), asked(reader, [P1, P2, P3], warm)
    assert np.abs(found - wanted).max() < close * np.abs(wanted).max()
    assert warm.prefill == beside([P1, P2, P3])
    assert warm.reuse.mode == f"craft-1+{scheme}"
    assert not contexts(reader, P2)[0].exact  # it was read behind a passage that storage had rounded


# --- the choice ---


def test_what_is_computed_is_what_the_least_context_asks_for(store: ChunkCacheStore) -> None:
    reader = reader_of(store, variants=2)
    asked(reader, [P1, P2, P3])
    asked(reader, [P4, P5, P3])
    first, second = contexts(reader, P3)[0], contexts(reader, P3)[1]
    assert (first.before, second.before) == (names(P1, P2), names(P4, P5))
    for list_of, expected in (
        ([P4, P5, P3], 0.0),  # as it was read
        ([P1, P3], share(first, names(P1), "other")),  # overlaps
        ([P2, P1, P3], 0.5),  # reversed: alpha * CCI is more than as read by itself
    ):
        shares = [cfo(one, names(*list_of[:-1])) for one in (first, second)]
        assert min(*shares, 0.5) == pytest.approx(expected)
        asked(reader, list_of)  # the passages in the middle are read in place and kept; both slots of P3 are taken
        meter = Meter()
        asked(reader, list_of, meter)
        assert meter.prefill == beside(list_of) + len(wanting(Context(), len(P3), expected))


def test_reversed_and_disjoint_lists_ask_for_alpha_times_cci() -> None:
    reader = reader_of()
    asked(reader, [P1, P2, P3])
    context = contexts(reader, P3)[0]
    assert cfo(context, names(P2, P1)) == cfo(context, names(P4, P5)) == pytest.approx(context.cci)
    assert cfo(context, names(P1, P2)) == 0
    assert share(context, names(P1, P2), context.front, 0.5) == 0


def test_slots_fill_in_order_and_none_is_replaced() -> None:
    reader = reader_of(variants=2)
    for passages in ([P1, P5], [P2, P5]):
        np.testing.assert_allclose(asked(reader, passages), own(reader, passages), atol=1e-5)
    asked(reader, [P3, P5])
    assert {slot: one.before for slot, one in contexts(reader, P5).items()} == {0: names(P1), 1: names(P2)}
    meter = Meter()
    asked(reader, [P3, P5], meter)  # as it was read by itself, half of it again
    assert meter.prefill == beside([P3, P5]) + -(-len(P5) // 2)


def test_a_passage_that_is_there_twice_is_two_places() -> None:
    reader = reader_of()
    for _ in range(2):
        np.testing.assert_allclose(asked(reader, [P1, P2, P1]), own(reader, [P1, P2, P1]), atol=1e-5)
    assert contexts(reader, P1)[0].before == names(P1, P2)


def test_what_is_new_is_read_in_place_among_what_is_there() -> None:
    reader, meter = reader_of(), Meter()
    asked(reader, [P1, P2, P3])
    passages = [P1, P2, P4, P3]
    found = asked(reader, passages, meter)
    middle = contexts(reader, P3)[0]
    again = len(wanting(middle, len(P3), cfo(middle, names(P1, P2, P4))))
    assert meter.prefill == beside(passages) + len(P4) + again
    assert contexts(reader, P4)[0].exact  # all in front of it was
    assert again == 0  # CFO does not see a passage between the others
    wanted = own(reader, passages)
    upto = len(reader.library.lead) + len(P1) + len(P2) + len(P4)
    assert np.abs(found - wanted)[upto:].max() > 1e-4


# --- in place ---


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_reading_in_place_is_the_full_prefill_s_reading(family: str) -> None:
    model, mode = model_of(family), parse_mode("craft")
    head = read(model, P5)[0]
    rows: list[Chunk] = [P1, Between(SEPARATOR), P2, P3]
    wanted = read_variants(model, [P1, Between(SEPARATOR), P2, P3], Meter(), prefix=head)
    chunks: list[Chunk] = [wanted[0], rows[1], P2, P3]
    watch = InPlace(model, mode, pieces_of(head, chunks), [3, 4])
    composed = compose(model, head, chunks, mode, Meter(), room=1, watch=watch)
    assert composed.exact
    for found, expected in zip(watch.variants(), wanted[1:], strict=True):
        np.testing.assert_allclose(found.states.keys, expected.states.keys, atol=1e-4)
        np.testing.assert_allclose(found.states.values, expected.states.values, atol=1e-4)
        np.testing.assert_allclose(found.context.tokens, expected.context.tokens, rtol=1e-3)  # type: ignore[arg-type]
        assert found.context.inter == pytest.approx(expected.context.inter, rel=1e-3)
        assert found.context.cci == pytest.approx(expected.context.cci, rel=1e-3)
        assert (found.context.before, found.context.front) == (expected.context.before, expected.context.front)
        assert (found.states.behind, found.context.exact) == (expected.states.behind, True)


def test_a_try_that_ran_out_of_memory_leaves_nothing_in_what_is_kept() -> None:
    class Short(InPlace):
        """Memory runs out once, in the second layer."""

        tries = 0

        def __call__(self, layer: int, *states: Any) -> None:
            self.tries += layer == 1
            if layer == 1 and self.tries == 1:
                raise MemoryError
            super().__call__(layer, *states)

    model, mode = model_of(), parse_mode("craft")
    head = read(model, P5)[0]
    chunks: list[Chunk] = [P1, P2]
    watch = Short(model, mode, pieces_of(head, chunks), [1, 2])
    compose(model, head, chunks, mode, Meter(), room=1, watch=watch)
    assert watch.tries == 2
    for found, expected in zip(watch.variants(), read_variants(model, [P1, P2], Meter(), prefix=head), strict=True):
        np.testing.assert_allclose(found.states.keys, expected.states.keys, atol=1e-4)
        assert found.context.inter == pytest.approx(expected.context.inter, rel=1e-3)


def test_what_is_read_for_heads_of_few_layers_has_all_layers() -> None:
    reader, prompt = reader_of(), prompt_of(reader_of(), [P1, P2, P3])
    question = [Prompt((Segment(QUESTION),))]
    for heads in ({0: (1, 2)}, None):
        (found,) = reader.attention(prompt, question, Meter(), heads)
        (wanted,) = reader.model.attention(prompt, question, Meter(), heads)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert len(slots_of(reader).load([(P2, 0, contexts(reader, P2)[0])])[0].states.keys) == 3  # type: ignore[union-attr]


def test_what_is_read_behind_passages_out_of_place_is_not_exact() -> None:
    reader = reader_of(variants=1)
    asked(reader, [P1, P2])
    passages = [P3, P2, P4]  # P2 as it was read by itself, its slot is taken
    for _ in range(2):
        asked(reader, passages)
    assert not contexts(reader, P4)[0].exact
    meter = Meter()
    asked(reader, passages, meter)
    assert meter.prefill == beside(passages) + -(-len(P2) // 2)  # and yet nothing of P4 is computed again


# --- where variants are not ---


def test_other_modes_other_beginnings_and_no_slots_keep_no_variants() -> None:
    for reader in (reader_of(mode="independent"), reader_of(variants=0), reader_of(mode="craft-0")):
        asked(reader, [P1, P2])
        assert reader.library.store is not None
        assert {partner(name)[0] for name in reader.library.store.keys("kv")} == {""}
    reader = reader_of()
    prompt = prompt_of(reader, [P1, P2], head=(9, 8, 7))
    reader.attention(prompt, [Prompt((Segment(QUESTION),))], Meter())
    assert contexts(reader, P2) == {}
    none = CachedReader(ChunkLibrary(model_of(), lead_of, None, variants=3), parse_mode("craft"))
    assert asked(none, [P1, P2]).shape == own(none, [P1, P2]).shape


def test_labels_and_likelihoods_take_passages_as_read_by_themselves() -> None:
    one, other = reader_of(), reader_of(variants=0)
    prompt = prompt_of(one, [P1, P2])
    np.testing.assert_array_equal(one.labels([prompt], [3, 4], Meter()), other.labels([prompt], [3, 4], Meter()))
    assert contexts(one, P2) == {}


def test_a_bound_on_tokens_holds_with_variants() -> None:
    given = as_given([Passage(text) for text in TEXTS])
    reader = reader_of()
    whole = AttentionReranker(reader).rerank(Query(QUERY), given).report.tokens
    for limit in (whole, whole // 2, 120):
        for one in (reader, reader_of()):
            found = AttentionReranker(one, limits=Limits(max_prefill_tokens=limit)).rerank(Query(QUERY), given)
            assert found.report.tokens <= limit
    ids = [tuple(reader.tokenizer.encode(text)) for text in TEXTS[:2]]
    assert all(most >= len(one) for most, one in zip(reader.computed(ids), ids, strict=True))


def test_threads_that_meet_on_a_cold_list_read_it_in_place_once() -> None:
    reader, together = reader_of(), Barrier(4)
    asked(reader, [P5])  # the lead is there

    def ask(_: int) -> tuple[np.ndarray, Meter]:
        meter = Meter()
        together.wait()
        return asked(reader, [P1, P2, P3], meter), meter

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, range(4)))
    for attention, _ in found:
        np.testing.assert_allclose(attention, found[0][0], atol=1e-5)
    once = len(P1) + len(P2) + len(P3)
    assert sum(meter.prefill for _, meter in found) == once + 4 * beside([P1, P2, P3])


# --- stores that fail ---


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def test_a_redis_that_dies_in_between_leaves_the_models_own_answer_and_is_reported(server: RedisServer) -> None:
    reader, meter = reader_of(RedisStore(server.url, timeout=1)), Meter()
    asked(reader, [P1, P2, P3])
    server.stop()
    np.testing.assert_allclose(asked(reader, [P1, P2, P3], meter), own(reader, [P1, P2, P3]), atol=1e-5)
    assert "Redis" in meter.reuse.trouble
    assert "127.0.0.1" not in meter.reuse.trouble
    assert meter.prefill == len(P1) + len(P2) + len(P3) + beside([P1, P2, P3])


@pytest.mark.parametrize("kind", ["c0", "i0"])
def test_a_flipped_variant_or_entry_is_read_anew_and_then_there(server: RedisServer, kind: str) -> None:
    reader, client = reader_of(RedisStore(server.url, timeout=5)), server.raw()
    asked(reader, [P1, P2, P3])
    wanted = own(reader, [P1, P2, P3])
    for name in client.keys(f"kv1:*:{kind}"):
        client.setrange(name, client.strlen(name) - 70, b"\xff\x00\xff\x00")
    damaged, after = Meter(), Meter()
    np.testing.assert_allclose(asked(reader, [P1, P2, P3], damaged), wanted, atol=1e-5)
    assert "checksum" in damaged.reuse.trouble
    assert damaged.prefill == len(P2) + len(P3) + beside([P1, P2, P3])
    np.testing.assert_allclose(asked(reader, [P1, P2, P3], after), wanted, atol=1e-5)
    assert (after.prefill, after.reuse.trouble) == (beside([P1, P2, P3]), "")


def test_processes_that_make_variants_of_the_same_passages_at_once_are_never_wrong(server: RedisServer) -> None:
    lists = [
        [P1, P2],
        [P3, P2],
        [P4, P2],
        [P1, P2],
    ]  # no context of P2 overlaps another: each answer is the model's own
    readers = [
        reader_of(TieredStore([MemoryStore(LARGE), RedisStore(server.url, timeout=10)]), variants=4) for _ in lists
    ]
    wanted = [own(readers[0], one) for one in lists]
    together = Barrier(len(lists))

    def ask(at: int) -> np.ndarray:
        together.wait()
        return asked(readers[at], lists[at])

    with ThreadPoolExecutor(len(lists)) as threads:
        found = list(threads.map(ask, range(len(lists))))
    for _ in ("as they are", "mended"):
        found += [asked(reader, one) for reader, one in zip(readers, lists, strict=True)]
    for at, attention in enumerate(found):
        np.testing.assert_allclose(attention, wanted[at % len(lists)], atol=1e-5)
    for one in lists:  # of two that filled one slot at once the first is only in its own process's memory
        asked(readers[0], one)
    meter = Meter()
    for one in lists:
        asked(readers[0], one, meter)
    assert meter.prefill == sum(map(beside, lists))


def test_a_passage_that_is_forgotten_takes_what_was_read_behind_it(store: ChunkCacheStore) -> None:
    reader, meter = reader_of(store), Meter()
    asked(reader, [P1, P2, P3])
    asked(reader, [P4, P3])
    forget_beginnings(store, [P2])
    assert contexts(reader, P2) == {}
    assert [one.before for one in contexts(reader, P3).values()] == [names(P4)]
    asked(reader, [P1, P2], meter)
    assert meter.prefill == len(P2) + beside([P1, P2])


@pytest.mark.parametrize("scheme", ["fp32", "bf16"])
def test_what_a_passage_reached_by_way_of_another_variant_is_forgotten_with_it(
    store: ChunkCacheStore, scheme: Scheme
) -> None:
    reader = reader_of(store, scheme=scheme)
    asked(reader, [P4, P1, P2])
    asked(reader, [P1, P2, P3])  # P2 as it was read behind P4 too, and P3 behind that
    asked(reader, [P5, P3])
    behind = [one for one in contexts(reader, P3).values() if one.before == names(P1, P2)]
    assert [one.through for one in behind] == [names(P4)]
    forget_beginnings(store, [P4])
    assert [one.before for one in contexts(reader, P3).values()] == [names(P5)]


def test_without_variants_no_passage_of_another_list_is_in_an_answer(store: ChunkCacheStore) -> None:
    """A key that may see one collection: what was read behind passages of another changes nothing for it."""
    reader, plain = reader_of(store), reader_of()
    narrow = CachedReader(reader.library, parse_mode("craft"), variants=False)
    asked(reader, [P4, P1, P2])
    wanted = CachedReader(plain.library, parse_mode("craft"), variants=False)
    np.testing.assert_array_equal(asked(narrow, [P1, P2]), asked(wanted, [P1, P2]))
    assert np.abs(asked(reader, [P1, P2]) - asked(wanted, [P1, P2])).max() > 1e-6
    assert [one.before for one in contexts(reader, P2).values()] == [names(P4, P1)]
    assert (narrow.repeats, reader.repeats) == (True, False)


@pytest.mark.parametrize("scheme", ["fp32", "bf16"])
def test_a_second_answer_is_calibrated_by_what_it_is_composed_of(scheme: Scheme) -> None:
    given = as_given([Passage(text) for text in TEXTS])
    reader = reader_of(scheme=scheme)
    reranker = AttentionReranker(reader)
    reranker.rerank(Query(QUERY), given)
    kept, fresh = (one.rerank(Query(QUERY), given) for one in (reranker, AttentionReranker(reader)))
    assert [(hit.chunk.id, hit.score) for hit in kept.hits] == [(hit.chunk.id, hit.score) for hit in fresh.hits]


def test_a_bound_on_tokens_shortens_a_list_whose_entries_are_there_and_their_states_are_not() -> None:
    given = as_given([Passage(" ".join([text] * 4)) for text in TEXTS])
    store = MemoryStore(LARGE)
    reader = reader_of(store, variants=1)
    AttentionReranker(reader).rerank(Query(QUERY), given)
    reader.library.find([tuple(reader.tokenizer.encode(hit.chunk.text)) for hit in given.hits], Meter())
    work = _Work(AttentionReranker(reader), Query(QUERY), [hit.chunk for hit in given.hits])
    most = work.tokens(len(work.readable))  # while all is there
    store.delete([name for name in store.keys("kv") if name.endswith(":c0")])
    found = AttentionReranker(reader, limits=Limits(max_prefill_tokens=most)).rerank(Query(QUERY), given).report
    assert found.tokens <= most
    assert found.degraded.startswith("partial")
    assert not found.degraded.startswith("partial, 0 of")  # shortened before it was read, not given up within
