"""Rerankers over cached chunk states: the model's own answers where that is promised, and nothing read twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest

from rag.generation.prompt import written
from rag.kv.library import ChunkLibrary
from rag.kv.memory import MemoryStore
from rag.kv.modes import parse_mode
from rag.kv.quantize import Scheme
from rag.kv.reader import CachedReader
from rag.kv.redis import RedisStore
from rag.kv.store import ChunkCacheStore
from rag.kv.tiered import TieredStore
from rag.protocols import Reranker
from rag.reranking import prompts
from rag.reranking.attention import AttentionReranker
from rag.reranking.given import Passage, as_given
from rag.reranking.icr import LATE, IcrPrompt, IcrTemplate, document_ids, icr_prompt, lead_of
from rag.reranking.listwise import ListwiseReranker
from rag.reranking.pairwise import PairwiseReranker
from rag.reranking.pointwise import PointwiseReranker
from rag.reranking.prompts import Form
from rag.reranking.setwise import SetwiseReranker
from rag.runtime.batch_decode import BatchDecode
from rag.runtime.decoding import Sampler, Sampling
from rag.runtime.meter import Limits, Meter, OutOfBudget
from rag.runtime.prompt import Prompt, Role, Segment
from rag.runtime.reader import Reader
from rag.values import Chunk, Context, Hit, Query, Ranking, ScoreKind, StageReport
from tests.rag.kv.models import model_of
from tests.redis_server import RedisServer
from tests.tiny_models import QUERY, TEXTS, one_thread

__all__ = ["one_thread"]

LARGE = 10**8
FAMILIES = ("llama", "qwen3")
LOSSY = ("independent", "ape", "link-4", "blend-0.3", "craft")


def reader_of(
    mode: str = "independent",
    store: ChunkCacheStore | None = None,
    family: str = "llama",
    scheme: Scheme = "fp32",
    tenant: str = "",
) -> CachedReader:
    library = ChunkLibrary(model_of(family), lead_of, store or MemoryStore(LARGE), scheme, tenant=tenant)
    return CachedReader(library, parse_mode(mode))


def attention_prompt(reader: Reader, texts: Sequence[str] = TEXTS, query: str = QUERY) -> IcrPrompt:
    strings = reader.family.attention
    template = IcrTemplate(strings.prefix, strings.separator, strings.suffix, LATE["IE"])
    documents = [document_ids(reader.tokenizer, text, None, 40) for text in texts]
    return icr_prompt(reader.tokenizer, template, query, documents, range(len(documents)))


def asked(reader: Reader, prompt: IcrPrompt, meter: Meter | None = None) -> np.ndarray:
    return np.stack(reader.attention(prompt.prefix, [prompt.query, prompt.calibration], meter or Meter()))


def in_place(prompt: IcrPrompt) -> int:
    """Tokens between and behind the passages, and of both suffixes."""
    _, *others = prompt.prefix.segments
    between = sum(len(segment.ids) for segment in others if segment.role is not Role.PASSAGE)
    return between + len(prompt.query.ids) + len(prompt.calibration.ids)


def passage_tokens(prompt: Prompt) -> int:
    return sum(len(ids) for ids in {segment.ids for segment in prompt.segments if segment.role is Role.PASSAGE})


# --- the same answers ---


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["full", "prefix", "link-1000", "blend-1"])
def test_modes_without_loss_pay_the_attention_that_the_model_pays(family: str, mode: str) -> None:
    reader = reader_of(mode, family=family)
    prompt = attention_prompt(reader)
    wanted = asked(model_of(family), prompt)
    for _ in ("cold", "warm"):
        np.testing.assert_allclose(asked(reader, prompt), wanted, atol=1e-5)
    heads = {0: (0, 3), 1: (1,)}
    for found, alone in zip(
        reader.attention(prompt.prefix, [prompt.query], Meter(), heads),
        model_of(family).attention(prompt.prefix, [prompt.query], Meter(), heads),
        strict=True,
    ):
        np.testing.assert_allclose(found, alone, atol=1e-5)
    each = reader.head_attention(prompt.prefix, [prompt.query], Meter())[0]
    np.testing.assert_allclose(
        each, model_of(family).head_attention(prompt.prefix, [prompt.query], Meter())[0], atol=1e-5
    )


@pytest.mark.parametrize("mode", ["full", "prefix", "link-1000"])
@pytest.mark.parametrize("kind", ["pairwise", "setwise", "listwise", "yes_no"])
def test_modes_without_loss_give_the_models_labels(mode: str, kind: str) -> None:
    reader, model = reader_of(mode), model_of()
    form, asked = label_prompts(model, kind)
    found = reader.labels(asked, form.labels, Meter())
    np.testing.assert_allclose(found, model.labels(asked, form.labels, Meter()), atol=1e-5)


@pytest.mark.parametrize("mode", ["full", "prefix", "link-1000"])
def test_modes_without_loss_give_the_models_likelihoods(mode: str) -> None:
    reader, model = reader_of(mode), model_of()
    form = prompts.likelihood(model, QUERY)
    asked = [form.write([ids[:30]]) for ids in model.tokenizer.encode_many([f" {text}" for text in TEXTS])]
    np.testing.assert_allclose(reader.likelihood(asked, Meter()), model.likelihood(asked, Meter()), atol=1e-5)


def label_prompts(model: Reader, kind: str) -> tuple[Form, list[Prompt]]:
    count = {"pairwise": 2, "yes_no": 1}.get(kind, 3)
    makers = {"pairwise": prompts.pairwise, "yes_no": prompts.yes_no}
    form = makers[kind](model, QUERY) if kind in makers else getattr(prompts, kind)(model, QUERY, count)
    ids = [row[:30] for row in model.tokenizer.encode_many([form.blank + text for text in TEXTS])]
    return form, [form.write(ids[at : at + count]) for at in range(len(ids) - count)]


@pytest.mark.parametrize("mode", LOSSY)
@pytest.mark.parametrize("scheme", ["fp32", "int8"])
def test_an_answer_does_not_depend_on_what_is_kept_already(mode: str, scheme: Scheme) -> None:
    reader = reader_of(mode, scheme=scheme)
    prompt = attention_prompt(reader)
    cold = asked(reader, prompt)
    np.testing.assert_array_equal(asked(reader, prompt), cold)
    form, pairs = label_prompts(reader, "pairwise")
    first = reader.labels(pairs, form.labels, Meter())
    np.testing.assert_array_equal(reader.labels(pairs, form.labels, Meter()), first)


def test_states_are_not_exact_behind_another_beginning_of_the_same_length() -> None:
    reader, model = reader_of("link-1000"), model_of()
    passage = Segment(tuple(model.tokenizer.encode(TEXTS[0])), Role.PASSAGE)
    head = Segment(tuple(reversed(reader.library.lead)))
    prompt = Prompt((head, passage, Segment((8, 9))))
    reader.labels([prompt], [3, 4], Meter())
    found = reader.labels([prompt], [3, 4], Meter())
    np.testing.assert_allclose(found, model.labels([prompt], [3, 4], Meter()), atol=1e-5)


def test_prompts_without_passages_are_the_models() -> None:
    reader, model = reader_of(), model_of()
    plain = Prompt((Segment((5, 6, 7)), Segment((8, 9), Role.QUERY)))
    np.testing.assert_array_equal(reader.labels([plain], [3, 4], Meter()), model.labels([plain], [3, 4], Meter()))
    np.testing.assert_array_equal(reader.likelihood([plain], Meter()), model.likelihood([plain], Meter()))
    ends_with_passage = Prompt((Segment((5, 6, 7)), Segment((8, 9), Role.PASSAGE)))
    found = reader.labels([ends_with_passage], [3, 4], Meter())
    np.testing.assert_array_equal(found, model.labels([ends_with_passage], [3, 4], Meter()))
    assert len(reader.attention(plain, [plain], Meter())[0]) == 5
    assert reader.labels([], [3, 4], Meter()).shape == (0, 2)


# --- what is computed ---


@pytest.mark.parametrize("mode", ["independent", "ape"])
def test_a_second_question_computes_its_own_tokens_only(mode: str) -> None:
    reader = reader_of(mode)
    prompt = attention_prompt(reader)
    cold, warm, other = Meter(), Meter(), Meter()
    asked(reader, prompt, cold)
    lead = len(prompt.prefix.segments[0].ids)
    assert cold.prefill == lead + passage_tokens(prompt.prefix) + in_place(prompt)
    assert cold.reuse.reused == lead  # it had just been read for the passages
    asked(reader, prompt, warm)
    assert warm.prefill == in_place(prompt)
    assert warm.reuse.reused == lead + passage_tokens(prompt.prefix)
    assert warm.reuse.tokens == len(prompt.prefix.ids)
    assert warm.reuse.mode.startswith(mode)
    reordered = attention_prompt(reader, TEXTS[::-1], "Which birds nest there?")
    asked(reader, reordered, other)
    assert other.prefill == in_place(reordered)


def test_link_computes_the_first_tokens_of_each_passage_again() -> None:
    reader, prompt = reader_of("link-4"), attention_prompt(reader_of())
    asked(reader, prompt)
    meter = Meter()
    asked(reader, prompt, meter)
    spans = [stop - start for start, stop in prompt.spans]
    repaired = sum(min(4, span) for span in spans[1:])  # the first stands where it was read
    assert meter.prefill == in_place(prompt) + repaired
    between = in_place(prompt) - len(prompt.query.ids) - len(prompt.calibration.ids)
    assert meter.reuse.again == pytest.approx(repaired + between)


def test_labels_compute_what_is_no_passage_and_no_known_beginning() -> None:
    reader = reader_of()
    form, asked = label_prompts(reader, "pairwise")
    reader.labels(asked, form.labels, Meter())
    meter = Meter()
    reader.labels(asked, form.labels, meter)
    head = sum(len(segment.ids) for segment in asked[0].segments[:3])
    passages = sum(len(s.ids) for prompt in asked for s in prompt.segments if s.role is Role.PASSAGE)
    assert meter.prefill == sum(len(prompt.ids) for prompt in asked) - passages - head * len(asked)
    assert meter.reuse.reused == passages + head * len(asked)


def test_prefix_reuses_the_first_passage_behind_its_own_beginning() -> None:
    reader, prompt = reader_of("prefix"), attention_prompt(reader_of())
    asked(reader, prompt)
    meter = Meter()
    asked(reader, prompt, meter)
    assert meter.reuse.reused == prompt.spans[0][1]
    suffixes = len(prompt.query.ids) + len(prompt.calibration.ids)
    assert meter.prefill == len(prompt.prefix.ids) - prompt.spans[0][1] + suffixes


def test_other_text_is_read_and_the_rest_is_not() -> None:
    store = MemoryStore(LARGE)
    reader = reader_of(store=store)
    asked(reader, attention_prompt(reader))
    changed = attention_prompt(reader, ["The lighthouse fell.", *TEXTS[1:]])
    meter = Meter()
    asked(reader, changed, meter)
    start, stop = changed.spans[0]
    assert meter.prefill == in_place(changed) + stop - start


def test_other_models_prefixes_schemes_and_tenants_share_nothing() -> None:
    store = MemoryStore(LARGE)
    reader = reader_of(store=store)
    prompt = attention_prompt(reader)
    asked(reader, prompt)
    cold = passage_tokens(prompt.prefix)
    others = [
        reader_of(store=store, tenant="another"),
        reader_of(store=store, scheme="int8"),
        CachedReader(ChunkLibrary(model_of("llama"), lambda _: [5, 6, 7], store, "fp32"), reader.mode),
        CachedReader(ChunkLibrary(model_of("llama", dtype="bfloat16"), lead_of, store, "fp32"), reader.mode),
        CachedReader(ChunkLibrary(model_of("llama", "linear"), lead_of, store, "fp32"), reader.mode),
    ]
    for other in others:
        meter = Meter()
        asked(other, prompt, meter)
        assert meter.prefill >= cold + in_place(prompt)
    again = Meter()
    asked(reader_of(store=store), prompt, again)  # another process with the same model
    assert again.prefill == in_place(prompt) + len(reader.library.lead)


def test_long_lists_are_held_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    form, asked = label_prompts(model_of(), "yes_no")
    whole = reader_of().labels(asked, form.labels, Meter())
    monkeypatch.setattr("rag.kv.reader.AT_ONCE", 40)
    reader, meter = reader_of(), Meter()
    np.testing.assert_allclose(reader.labels(asked, form.labels, meter), whole, atol=1e-5)
    assert meter.reuse.reused > 0


def test_without_a_store_passages_are_read_each_time() -> None:
    library = ChunkLibrary(model_of(), lead_of, None)
    reader = CachedReader(library, parse_mode("independent"))
    prompt = attention_prompt(reader)
    first, second = asked(reader, prompt), Meter()
    np.testing.assert_allclose(asked(reader, prompt, second), first, atol=1e-6)
    assert second.prefill == passage_tokens(prompt.prefix) + in_place(prompt)
    assert library.cache is None


# --- one reading for all ---


def test_threads_that_meet_on_cold_passages_read_them_once() -> None:
    reader, together = reader_of(), Barrier(4)
    prompt = attention_prompt(reader)

    def ask(_: int) -> tuple[np.ndarray, Meter]:
        meter = Meter()
        together.wait()
        return asked(reader, prompt, meter), meter

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, range(4)))
    for attention, _ in found[1:]:
        np.testing.assert_array_equal(attention, found[0][0])
    once = len(reader.library.lead) + passage_tokens(prompt.prefix)
    assert sum(meter.prefill for _, meter in found) == once + 4 * in_place(prompt)


def test_a_request_without_budget_does_not_spoil_another() -> None:
    reader = reader_of()
    prompt = attention_prompt(reader)
    with pytest.raises(OutOfBudget):
        asked(reader, prompt, Meter(Limits(max_prefill_tokens=3)))
    assert asked(reader, prompt).shape == (2, len(prompt.prefix.ids))


# --- stores that fail ---


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def test_a_redis_that_dies_changes_no_answer_and_is_reported(server: RedisServer) -> None:
    reader = reader_of(store=TieredStore([RedisStore(server.url, timeout=1)]))
    reranker = AttentionReranker(reader)
    given = as_given([Passage(text) for text in TEXTS])
    before = reranker.rerank(Query(QUERY), given)
    warm = AttentionReranker(reader).rerank(Query(QUERY), given)
    assert warm.report.notes == ()
    server.stop()
    after = AttentionReranker(reader).rerank(Query(QUERY), given)
    assert ranked(after) == ranked(before) == ranked(warm)
    (note,) = after.report.notes
    assert "trouble (Redis" in note
    assert "127.0.0.1" not in note


def test_a_redis_that_lies_is_reported(server: RedisServer) -> None:
    reader = reader_of(store=RedisStore(server.url, timeout=5))
    prompt = attention_prompt(reader)
    wanted = asked(reader, prompt)
    client = server.raw()
    for name in client.keys("kv1:*"):
        client.setrange(name, 2000, b"\xff\x00\xff\x00")
    meter = Meter()
    np.testing.assert_array_equal(asked(reader, prompt, meter), wanted)
    assert "checksum" in meter.reuse.trouble


# --- rerankers ---


def ranked(ranking: Ranking) -> list[tuple[str, float]]:
    return [(hit.chunk.id, hit.score) for hit in ranking]


RERANKERS: dict[str, type[Reranker]] = {
    "icr": AttentionReranker,
    "prp": PairwiseReranker,
    "setwise": SetwiseReranker,
    "listwise": ListwiseReranker,
    "pointwise": PointwiseReranker,
}


@pytest.mark.parametrize("kind", RERANKERS)
def test_every_reranker_ranks_as_uncached_and_says_what_it_reused(kind: str) -> None:
    given = as_given([Passage(text, title="T" if i % 2 else "") for i, text in enumerate(TEXTS[:5])])
    made = RERANKERS[kind]
    plain = made(model_of()).rerank(Query(QUERY), given)  # type: ignore[call-arg]
    exact = made(reader_of("full")).rerank(Query(QUERY), given)  # type: ignore[call-arg]
    assert [name for name, _ in ranked(exact)] == [name for name, _ in ranked(plain)]
    np.testing.assert_allclose([s for _, s in ranked(exact)], [s for _, s in ranked(plain)], atol=1e-4)
    reader = reader_of("link-2")
    cold = made(reader).rerank(Query(QUERY), given)  # type: ignore[call-arg]
    warm = made(reader).rerank(Query(QUERY), given)  # type: ignore[call-arg]
    assert ranked(warm) == ranked(cold)
    assert (warm.report.cache_mode, plain.report.cache_mode) == ("link-2", "")
    assert warm.report.tokens < cold.report.tokens
    assert warm.report.reused > cold.report.reused
    assert 0 < warm.report.recomputed < 1
    assert plain.report.reused == plain.report.recomputed == 0


def test_passages_carry_no_label_where_modes_lose_something() -> None:
    given = as_given([Passage(text) for text in TEXTS[:3]])
    for mode, labelled in (("independent", False), ("full", True)):
        found = AttentionReranker(reader_of(mode)).contributions(Query(QUERY), given)
        scores = {hit.chunk.id: hit.score for hit in AttentionReranker(reader_of(mode)).rerank(Query(QUERY), given)}
        for one, text in zip(found, TEXTS, strict=False):
            assert "".join(one.tokens).startswith("[") is labelled
            assert "".join(one.tokens).endswith(text)
            assert sum(one.values) == pytest.approx(scores[one.chunk_id], abs=1e-5)


def test_what_an_empty_question_pays_is_kept_by_mode() -> None:
    given = as_given([Passage(text) for text in TEXTS[:3]])
    first = AttentionReranker(reader_of("independent"))
    first.rerank(Query(QUERY), given)
    other = replace(first, model=CachedReader(reader_of().library, parse_mode("ape")))
    alone = AttentionReranker(CachedReader(reader_of().library, parse_mode("ape")))
    assert ranked(other.rerank(Query(QUERY), given)) == ranked(alone.rerank(Query(QUERY), given))


# --- answers ---


def answer_prompt(reader: Reader, texts: Sequence[str]) -> Prompt:
    """As a generator writes it: sources, the question, the model's turn."""
    hits = tuple(Hit(Chunk(f"c{n}", f"d{n}", text, 0, len(text)), 1.0 / n) for n, text in enumerate(texts, 1))
    report = StageReport("select", n_out=len(hits))
    context = Context(hits, 100, 1000, Ranking(hits, ScoreKind.COSINE, report), report)
    return written(reader.tokenizer, reader.family, Query(QUERY), context, 1500).prompt


def answered(reader: CachedReader, prompt: Prompt, meter: Meter) -> list[int]:
    sampler = Sampler(Sampling())
    batch = BatchDecode(reader.model, rows=1)
    return list(batch.tokens(lambda: reader.begin(prompt, meter, 12), prompt.ids[-1], sampler, 12, meter))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["full", "prefix", "link-4096"])
def test_an_answer_from_exact_states_is_the_models_own(mode: str, family: str) -> None:
    cached = reader_of(mode, family=family)
    model = cached.model
    prompt = answer_prompt(cached, TEXTS[:4])
    batch = BatchDecode(model, rows=1)
    own = list(batch.tokens(lambda: model.begin(prompt, Meter(), 12), prompt.ids[-1], Sampler(Sampling()), 12, Meter()))
    assert answered(cached, prompt, Meter()) == own


@pytest.mark.parametrize("mode", LOSSY)
def test_an_answer_reads_its_sources_once(mode: str) -> None:
    cached = reader_of(mode)
    prompt = answer_prompt(cached, TEXTS[:4])
    passages = sum(len(segment.ids) for segment in prompt.segments if segment.role is Role.PASSAGE)
    cold, warm = Meter(), Meter()
    first, second = answered(cached, prompt, cold), answered(cached, prompt, warm)
    assert first == second
    assert warm.reuse.mode == str(parse_mode(mode))
    assert warm.reuse.reused >= passages
    assert cold.prefill - warm.prefill >= passages
    turned = Meter()
    answered(cached, answer_prompt(cached, TEXTS[3::-1]), turned)
    assert turned.reuse.reused >= passages


@pytest.mark.parametrize(("scheme", "said"), [("fp32", "prefix"), ("int8", "prefix+int8"), ("bf16", "prefix+bf16")])
def test_the_mode_names_how_storage_rounded_what_was_reused(scheme: Scheme, said: str) -> None:
    reader, meter = reader_of("prefix", scheme=scheme), Meter()
    asked(reader, attention_prompt(reader), meter)
    assert meter.reuse.mode == said


@pytest.mark.parametrize("mode", ["independent", "ape", "link-4", "craft"])
def test_a_bound_on_tokens_counts_what_cached_lists_compute(mode: str) -> None:
    given = as_given([Passage(text) for text in TEXTS])
    reader = reader_of(mode)
    whole = AttentionReranker(reader).rerank(Query(QUERY), given).report.tokens
    warm = AttentionReranker(reader).rerank(Query(QUERY), given).report
    assert warm.tokens < whole
    lead = len(reader.library.lead)
    bound = warm.tokens + lead + 40  # the empty question was kept from the first time
    cold = AttentionReranker(reader_of(mode), limits=Limits(max_prefill_tokens=bound)).rerank(Query(QUERY), given)
    assert "were compared" in cold.report.degraded
    assert cold.report.tokens <= bound
    bounded = AttentionReranker(reader, limits=Limits(max_prefill_tokens=bound)).rerank(Query(QUERY), given)
    assert bounded.report.degraded == ""
    assert bounded.report.tokens <= bound
    fewer = AttentionReranker(reader, limits=Limits(max_prefill_tokens=lead + 60)).rerank(Query(QUERY), given)
    assert fewer.report.tokens <= lead + 60


@pytest.mark.parametrize("mode", [*LOSSY, "link-0", "blend-0"])
def test_what_a_mode_will_compute_of_a_passage_is_what_it_computes(mode: str) -> None:
    reader = reader_of(mode)
    ids = tuple(reader.tokenizer.encode(TEXTS[0]))[:20]
    lead, other = Segment(reader.library.lead), Segment((8, 9), Role.PASSAGE)
    prompt = Prompt((lead, other, Segment(ids, Role.PASSAGE), Segment((5, 6))))  # not where it was read
    before = reader.computed([(8, 9), ids])
    reader.labels([prompt], [3, 4], Meter())
    meter, after = Meter(), reader.computed([(8, 9), ids])
    reader.labels([prompt], [3, 4], meter)
    assert [cold - warm for cold, warm in zip(before, after, strict=True)] == [2, len(ids)]
    found = meter.prefill - 2
    assert found <= after[1]
    assert found == after[1] or mode.startswith("blend")  # which drops some behind the second layer
