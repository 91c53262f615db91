"""The likelihood of the question given a set: each set asked once, batches in one call, cached states reused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import exp

import numpy as np
import pytest

from rag.entry import Entries
from rag.errors import CacheUnavailable, KvasirError, ModelNotAvailable, ModelOutOfMemory, Overloaded
from rag.kv.library import ChunkLibrary
from rag.kv.memory import MemoryStore
from rag.kv.modes import parse_mode
from rag.kv.reader import CachedReader
from rag.reranking.icr import lead_of
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Meter, deadline
from rag.runtime.prompt import Prompt, Role
from rag.runtime.reader import Array, Reader
from rag.selection.likelihood import Likelihood
from rag.selection.problem import Limits
from rag.selection.search import LEAST_SECONDS, SetSelector, within_deadline
from rag.selection.utility import Weights
from rag.values import Chunk, Hit, Query, Ranking, ScoreKind, StageReport
from tests.fakes import HashingEncoder
from tests.tiny_models import loaded, one_thread

__all__ = ["one_thread"]
QUESTION = "When does the ferry to Vendel leave in winter?"
TEXTS = ("The ferry to Vendel takes an hour.", "In winter it leaves at nine.", "Puffins nest on cliffs.", "Fog horns.")
CHUNKS = [Chunk(f"d{i}", f"d{i}", text, 0, len(text), "Vendel" if i == 0 else "") for i, text in enumerate(TEXTS)]
WEIGHTS = Weights(coverage=0.1, entities=0.1, relevance=0.1, bridge=0.1, likelihood=0.6)
SETS = [(0,), (1,), (0, 1), (1, 0), (0, 1, 2)]


class Counting(LexicalReader):
    """Notes the prompts of each call."""

    def __init__(self) -> None:
        self.calls: list[list[Prompt]] = []

    def likelihood(self, prompts: Sequence[Prompt], meter: Meter) -> Array:
        self.calls.append(list(prompts))
        return super().likelihood(prompts, meter)


def term(reader: Reader, meter: Meter | None = None, longest: int = 100) -> Likelihood:
    return Likelihood(lambda: reader, QUESTION, CHUNKS, longest, meter or Meter())


def test_the_prompt_has_the_chunks_in_their_order_and_the_question_last() -> None:
    reader = LexicalReader()
    prompt = term(reader).prompt((1, 0))
    passages = [reader.tokenizer.decode(s.ids) for s in prompt.segments if s.role is Role.PASSAGE]
    assert passages == [TEXTS[1], f"Vendel\n{TEXTS[0]}"]
    assert reader.tokenizer.decode(prompt.segments[-1].ids).strip() == QUESTION
    cut = term(reader, longest=3).prompt((1,))
    assert [len(s.ids) for s in cut.segments if s.role is Role.PASSAGE] == [3]


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_value_is_by_how_much_the_questions_perplexity_falls(family: str) -> None:
    model = loaded(family)
    asked = term(model)
    without, *perplexities = [exp(-float(model.likelihood([asked.prompt(s)], Meter())[0])) for s in ((), *SETS)]
    fallen = [max(0.0, 1.0 - perplexity / without) for perplexity in perplexities]
    assert asked(SETS) == pytest.approx(fallen, abs=1e-4)
    assert 0.0 <= min(fallen) < max(fallen) < 1.0
    assert asked([()]).tolist() == [0.0]
    pairs = list(combinations(range(len(CHUNKS)), 2))
    assert any(asked([pair])[0] != asked([pair[::-1]])[0] for pair in pairs), "the order counts"


def test_a_batch_is_one_call_and_no_set_is_asked_twice() -> None:
    reader = Counting()
    asked = term(reader)
    asked([*SETS, (0,)])
    asked([(0, 1), (2,), ()])
    assert [len(call) for call in reader.calls] == [6, 1], "the empty set comes with the first"
    assert asked.knows((2,))
    assert not asked.knows((3,))


@pytest.mark.parametrize("mode", ["full", "independent", "link-4"])
def test_from_cached_states_only_what_is_no_chunk_is_computed(mode: str) -> None:
    """All tokens of a set whose chunks are stored, but the chunks: template and question, and what the mode repairs."""
    model = loaded("llama")
    reader = CachedReader(ChunkLibrary(model, lead_of, MemoryStore(2**30)), parse_mode(mode))
    term(reader)(SETS)  # reads every chunk once
    meter = Meter()
    again = term(reader, meter)
    values = again(SETS)
    whole = sum(len(again.prompt(s).ids) for s in SETS)
    if mode == "full":
        np.testing.assert_allclose(values, term(model)(SETS), rtol=1e-3)
    else:
        assert 0 < meter.prefill < whole
        assert meter.reuse.reused > 0
    if mode == "independent":
        assert sum(map(again.reads, SETS)) >= meter.prefill
        assert again.reads((0, 1)) < len(again.prompt((0, 1)).ids) - 10


def ranking() -> Ranking:
    return Ranking(tuple(Hit(c, 0.5 - i / 100) for i, c in enumerate(CHUNKS)), ScoreKind.COSINE, StageReport("test"))


def test_a_selector_weighs_it_and_reports_what_was_computed() -> None:
    reader = Counting()
    selector = SetSelector(count=Entries(HashingEncoder()), weights=WEIGHTS, reader=lambda: reader)
    context = selector.select(Query(QUESTION), ranking(), 60)
    assert context.choice is not None
    assert "likelihood" in context.choice.chosen[0].terms
    asked = [prompt for call in reader.calls for prompt in call]
    assert len(asked) == len({prompt.ids for prompt in asked}) == 1 + context.choice.evaluations
    assert context.report.tokens == context.choice.tokens > 0
    assert context.report.passes > 0
    assert len(reader.calls) < len(asked), "the sets of an expansion share a call"


@pytest.mark.parametrize("mode", ["independent", "link-4", "blend-0.15", "full"])
@pytest.mark.parametrize("warm", [False, True])
def test_tokens_of_a_model_with_cached_states_can_be_limited(mode: str, warm: bool) -> None:
    """Chunks that are read first, and what a mode computes again, are counted before they are."""
    reader = CachedReader(ChunkLibrary(loaded("llama"), lead_of, MemoryStore(2**30)), parse_mode(mode))
    if warm:
        term(reader, longest=256)(SETS)
    limits = Limits(tokens=700)
    selector = SetSelector(count=Entries(HashingEncoder()), weights=WEIGHTS, reader=lambda: reader, limits=limits)
    choice = selector.select(Query(QUESTION), ranking(), 60).choice
    assert choice is not None
    assert choice.tokens <= 700


def test_its_tokens_can_be_limited() -> None:
    reader = Counting()
    free = SetSelector(count=Entries(HashingEncoder()), weights=WEIGHTS, reader=lambda: reader)
    limited = replace(free, limits=Limits(tokens=300))
    context = limited.select(Query(QUESTION), ranking(), 60)
    assert context.choice is not None
    assert context.choice.end == "limit"
    assert 0 < context.choice.tokens <= 300


@dataclass
class Broken(LexicalReader):
    """Never answers."""

    error: KvasirError
    asked: list[int] = field(default_factory=list)

    def likelihood(self, prompts: Sequence[Prompt], meter: Meter) -> Array:
        self.asked.append(len(prompts))
        raise self.error


class Undefined(LexicalReader):
    """A model whose arithmetic overflowed."""

    def likelihood(self, prompts: Sequence[Prompt], meter: Meter) -> Array:
        return np.full(len(prompts), np.nan, dtype=np.float32)


def without_likelihood(reader: Reader, passages: Ranking, longest: int = 256) -> str:
    """How the choice is degraded, which is that of the other terms."""
    selector = SetSelector(
        count=Entries(HashingEncoder()), weights=WEIGHTS, reader=lambda: reader, passage_tokens=longest
    )
    context, plain = (s.select(Query(QUESTION), passages, 9000) for s in (selector, replace(selector, reader=None)))
    assert context.chunks == plain.chunks != ()
    assert plain.report.degraded == ""
    return context.report.degraded


@pytest.mark.parametrize("error", [ModelNotAvailable, ModelOutOfMemory, Overloaded])
def test_without_the_model_the_choice_is_the_one_by_the_other_terms_and_says_so(error: type[KvasirError]) -> None:
    broken = Broken(error("no answer today"))
    said = without_likelihood(broken, ranking())
    assert broken.asked
    assert said == "chosen without the likelihood of the question: no answer today"


@pytest.fixture
def due() -> Iterator[Callable[[float], None]]:
    """Sets the deadline of the request, in seconds from now."""
    before = deadline.set(None)
    yield lambda seconds: deadline.set(time.perf_counter() + seconds) and None
    deadline.reset(before)


def test_past_the_deadline_the_model_is_left_out_and_something_is_chosen(due: Callable[[float], None]) -> None:
    model = loaded("llama")
    due(-1.0)
    selector = SetSelector(count=Entries(HashingEncoder()), weights=WEIGHTS, reader=lambda: model)
    context = selector.select(Query(QUESTION), ranking(), 9000)
    assert context.report.degraded == "chosen without the likelihood of the question: the request's deadline is past"
    assert context.chunks


class Slow(LexicalReader):
    """Takes a fifth of a second a call, and knows no deadline."""

    def likelihood(self, prompts: Sequence[Prompt], meter: Meter) -> Array:
        time.sleep(0.2)
        return super().likelihood(prompts, Meter(until=None))


def test_the_search_ends_at_the_requests_deadline(due: Callable[[float], None]) -> None:
    """One set a call: of those that the search asks for without a deadline, three have begun after 0.45 seconds."""
    limits = Limits(evaluations=None, batch=1)
    selector = SetSelector(count=Entries(HashingEncoder()), weights=WEIGHTS, reader=LexicalReader, limits=limits)
    whole = selector.select(Query(QUESTION), ranking(), 9000).choice
    due(0.45)
    choice = replace(selector, reader=Slow).select(Query(QUESTION), ranking(), 9000).choice
    assert whole is not None
    assert choice is not None
    assert (whole.end, choice.end) == ("optimal", "limit")
    assert 1 <= choice.evaluations <= 3 < whole.evaluations


def test_limits_are_the_nearer_of_the_selectors_and_the_requests(due: Callable[[float], None]) -> None:
    own = Limits(seconds=5.0)
    assert within_deadline(own) is own
    due(1000.0)
    assert within_deadline(own) == own
    assert 990 < (within_deadline(Limits()).seconds or 0) <= 1000
    due(-1.0)
    assert within_deadline(own) == replace(own, seconds=LEAST_SECONDS)


def test_a_likelihood_that_is_no_number_is_left_out() -> None:
    assert "is no number; load the model in float32" in without_likelihood(Undefined(), ranking())


def test_a_set_longer_than_the_model_reads_costs_the_term_and_no_answer() -> None:
    model = loaded("llama")
    text = "winter ferry " * model.context
    long = Ranking((Hit(Chunk("d0", "d0", text, 0, len(text)), 0.9),), ScoreKind.COSINE, StageReport("test"))
    assert "the model reads" in without_likelihood(model, long, longest=100_000)


def test_a_model_is_not_asked_for_where_nothing_weighs_it() -> None:
    def never() -> Reader:
        raise AssertionError("nobody needs a model")

    selector = SetSelector(count=Entries(HashingEncoder()), reader=never)
    assert selector.select(Query(QUESTION), ranking(), 60).report.tokens == 0


# --- the wait for the first token ---


def test_of_two_equals_the_one_whose_states_are_kept_is_taken() -> None:
    """Equal texts, a budget for one: the second is cached. By default the cache changes nothing."""
    twins = Ranking(
        tuple(Hit(Chunk(f"d{i}", f"d{i}", "the winter ferry", 0, 16), 0.5) for i in range(2)),
        ScoreKind.COSINE,
        StageReport("test"),
    )
    weights = Weights(ttft=0.5)

    def kept(chunks: Sequence[Chunk]) -> list[bool]:
        return [chunk.id == "d1" for chunk in chunks]

    by_cache = SetSelector(count=Entries(HashingEncoder()), weights=weights, kept=kept)
    assert [c.id for c in by_cache.select(Query(QUESTION), twins, 4).chunks] == ["d1"]
    by_default = SetSelector(count=Entries(HashingEncoder()), kept=kept)
    assert [c.id for c in by_default.select(Query(QUESTION), twins, 4).chunks] == ["d0"]


def test_a_store_that_does_not_answer_costs_the_term_and_no_answer() -> None:
    def silent(chunks: Sequence[Chunk]) -> list[bool]:
        raise CacheUnavailable("the store does not answer")

    asked = SetSelector(count=Entries(HashingEncoder()), weights=Weights(ttft=0.5), kept=silent)
    context, plain = (s.select(Query(QUESTION), ranking(), 60) for s in (asked, replace(asked, kept=None)))
    assert context.chunks == plain.chunks
    assert context.report.degraded == "chosen without the wait for the first token: the store does not answer"
