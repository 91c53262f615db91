"""Answers written together: the same tokens as alone and as transformers writes them; places, time, memory, leaving."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rag.errors import ModelOutOfMemory, Overloaded
from rag.kv.compose import compose
from rag.kv.modes import Mode
from rag.language_model import LanguageModel
from rag.runtime import batch_decode
from rag.runtime.batch_decode import BatchDecode
from rag.runtime.decoding import Sampler, Sampling
from rag.runtime.keyvalues import KeyValues, RowStates
from rag.runtime.meter import Cancelled, Limits, Meter, OutOfBudget, cancelled
from rag.runtime.prompt import Prompt, Segment
from tests.tiny_models import FAMILIES, TEXTS, loaded, one_thread, plain_model, saved

__all__ = ["one_thread"]
GREEDY = Sampling()


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model() -> LanguageModel:
    """A tiny Llama of the test's own."""
    return LanguageModel(str(saved("llama")), device="cpu", dtype="float32")


@dataclass
class Watched(BatchDecode):
    """A batch that notes how many rows each of its passes has."""

    of: LanguageModel
    places: int = 8
    rows_of_passes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.of, self.places)

    def _logits(self, rows: Any) -> Any:
        self.rows_of_passes.append(len(rows))
        return super()._logits(rows)


def prompt(model: LanguageModel, *texts: str) -> Prompt:
    return Prompt((Segment(tuple(model.tokenizer.start("\n".join(texts)))),))


def answer(
    batch: BatchDecode, asked: Prompt, most: int = 24, sampling: Sampling = GREEDY, meter: Meter | None = None
) -> Iterator[int]:
    model: Any = batch.model
    meter = meter or Meter()
    return batch.tokens(lambda: model.begin(asked, meter, most), asked.ids[-1], Sampler(sampling), most, meter)


def together(work: Sequence[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(work)) as threads:
        return [future.result(60) for future in [threads.submit(one) for one in work]]


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)


def generated(family: str, model: LanguageModel, asked: Prompt, most: int) -> list[int]:
    """What transformers' own generate writes."""
    import torch

    ids = torch.tensor([asked.ids])
    ends = sorted(model.ends)
    out = plain_model(family).generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )
    found: list[int] = out[0, len(asked.ids) :].tolist()
    return found


# --- the same tokens ---


def test_the_best_tokens_are_those_of_transformers_generate(family: str) -> None:
    model = loaded(family)
    for texts in (TEXTS[:1], TEXTS[:5], TEXTS[-2:]):
        asked, meter = prompt(model, *texts), Meter()
        found = list(answer(BatchDecode(model), asked, 40, meter=meter))
        assert found == generated(family, model, asked, 40)
        assert (meter.prefill, meter.decoded, meter.passes) == (len(asked.ids) - 1, len(found), len(found) + 1)


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_position_off_by_one_would_be_noticed(family: str, wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(family)
    asked = prompt(model, *TEXTS[:5])
    expected = generated(family, model, asked, 40)
    right: Any = vars(RowStates)["positions"].fget
    monkeypatch.setattr(RowStates, "positions", property(lambda states: [at + wrong for at in right(states)]))
    assert list(answer(BatchDecode(model), asked, 40)) != expected


def test_company_changes_no_token(family: str) -> None:
    """Prompts of 5 to 200 tokens, greedy and sampled, that come and go at different steps."""
    model = loaded(family)
    asked = [
        (prompt(model, *texts), most, sampling)
        for texts, most in ((TEXTS[:1], 30), (TEXTS[4:5], 11), (TEXTS, 23), (TEXTS[2:4], 40), (TEXTS[-1:], 7))
        for sampling in (GREEDY, Sampling(0.8, 0.9, seed=len(texts)))
    ]
    alone = [list(answer(BatchDecode(model), *one)) for one in asked]
    assert len({tuple(tokens) for tokens in alone}) == len(asked)
    batch = Watched(model, 4)
    assert together([lambda one=one: list(answer(batch, *one)) for one in asked]) == alone  # type: ignore[misc]
    assert max(batch.rows_of_passes) == 4
    assert batch._inside == []


def awkward() -> LanguageModel:
    """A Llama whose MLP is computed in slices of 115, so that no row of them begins where a vector does."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(saved("llama")))
    config.hidden_size, config.intermediate_size = 128, 344
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return LanguageModel.wrap(model.eval(), loaded("llama").tokenizer, loaded("llama").family)


@pytest.mark.parametrize("rows", [2, 3, 5])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_company_changes_no_bit_of_the_scores(family: str, dtype: str, rows: int) -> None:
    no_bit_differs(LanguageModel(str(saved(family)), device="cpu", dtype=dtype), rows)


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_nor_does_it_where_rows_begin_anywhere(rows: int) -> None:
    no_bit_differs(awkward(), rows)


def no_bit_differs(model: LanguageModel, rows: int) -> None:
    batch = BatchDecode(model, rows)

    def row(texts: Sequence[str]) -> Any:
        asked = prompt(model, *texts)
        states = model.begin(asked, Meter(), 1)
        return batch_decode._Row(asked.ids[-1], Sampler(GREEDY), model.ends, 1, Meter(), states)

    asked = [row(TEXTS[:n]) for n in range(1, rows + 1)]
    scores = model.alone(Meter(), lambda: batch._logits(asked), 1)
    for i, one in enumerate(asked):
        assert np.array_equal(model.alone(Meter(), lambda one=one: batch._logits([one]), 1)[0], scores[i])  # type: ignore[misc]


def test_states_composed_of_chunks_are_read_on_as_a_single_pass_would(family: str) -> None:
    """Shared positions and corrected attention (APE) hold row by row too."""
    model = loaded(family)
    chunks = [tuple(model.tokenizer.encode(text)) for text in TEXTS[3:6]]
    asked = tuple(model.tokenizer.encode("\nAnswer:"))
    start = tuple(model.tokenizer.start("Read."))

    def composed() -> KeyValues:
        states = compose(model, start, chunks, Mode(kind="ape", temperature=0.9, scale=0.8), Meter(), room=40).states
        model.alone(Meter(), lambda: model.prefill(asked[:-1], states, Meter(), model.shape[0] - 1), 1)
        return states

    states, expected = composed(), [asked[-1]]

    def step() -> int:
        hidden = model.follow(expected[-1:], states)
        states.keep(1)
        assert hidden is not None
        return int(model.scores(hidden[0], None)[0].argmax())

    while len(expected) < 13 and expected[-1] not in model.ends:
        expected.append(model.alone(Meter(), step, 1))
    batch = BatchDecode(model, 3)

    def read() -> list[int]:
        return list(batch.tokens(composed, asked[-1], Sampler(GREEDY), 12, Meter()))

    other = prompt(model, *TEXTS)
    found = together([read, lambda: list(answer(batch, other)), read])
    assert found[0] == found[2] == expected[1:]


# --- places and time ---


def test_no_more_rows_than_places_and_all_are_answered(model: LanguageModel) -> None:
    batch = Watched(model, 2)
    asked = [prompt(model, text) for text in TEXTS]
    found = together([lambda one=one: list(answer(batch, one)) for one in asked])  # type: ignore[misc]
    assert found == [list(answer(BatchDecode(model, 2), one)) for one in asked]
    assert max(batch.rows_of_passes) == 2


def test_places_are_given_in_the_order_of_asking(model: LanguageModel) -> None:
    batch, order = BatchDecode(model, 1), list[int]()
    first = answer(batch, prompt(model, TEXTS[0]))
    next(first)
    asked = prompt(model, TEXTS[1])

    def ask(number: int) -> None:
        def begin() -> KeyValues:
            order.append(number)
            return model.begin(asked, Meter(), 3)

        list(batch.tokens(begin, asked.ids[-1], Sampler(GREEDY), 3, Meter()))

    with ThreadPoolExecutor(6) as threads:
        asking = []
        for number in range(6):
            asking.append(threads.submit(ask, number))
            until(lambda: len(batch._queue) == len(asking))
        list(first)
        for one in asking:
            one.result(60)
    assert order == list(range(6))


def test_whoever_finds_no_place_in_time_is_told(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = BatchDecode(model, 1)
    first = answer(batch, prompt(model, TEXTS[0]))
    next(first)
    with pytest.raises(OutOfBudget, match="deadline_ms = 80 is used up"):
        next(answer(batch, prompt(model, TEXTS[1]), meter=Meter(Limits(deadline_ms=80))))
    monkeypatch.setattr(batch_decode, "MAX_WAITING", 0)
    with pytest.raises(Overloaded, match="0 requests wait for the language model; try again"):
        next(answer(batch, prompt(model, TEXTS[1])))
    assert len(list(first)) > 5


def test_an_answer_whose_time_is_up_has_given_out_what_it_had(model: LanguageModel) -> None:
    batch, meter = BatchDecode(model), Meter(Limits(deadline_ms=1e6))
    tokens = answer(batch, prompt(model, TEXTS[0]), meter=meter)
    began = [next(tokens)]
    meter.started -= 1e4
    with pytest.raises(OutOfBudget):
        began.extend(tokens)
    assert began == list(answer(BatchDecode(model), prompt(model, TEXTS[0])))[: len(began)]
    assert batch._inside == []


def test_a_caller_that_does_not_fetch_holds_nobody_up_and_loses_nothing(model: LanguageModel) -> None:
    batch, alone = BatchDecode(model, 2), BatchDecode(model, 2)
    slow, other = prompt(model, TEXTS[0]), prompt(model, TEXTS[1])
    waiting = answer(batch, slow, 6)
    first = next(waiting)
    assert list(answer(batch, other, 30)) == list(answer(alone, other, 30))
    assert list(answer(batch, other, 8)) == list(
        answer(alone, other, 8)
    )  # its place is free, though it fetched nothing
    assert [first, *waiting] == list(answer(alone, slow, 6))


# --- leaving ---


def watch(begin: Callable[[], KeyValues], seen: list[weakref.ref[Any]]) -> Callable[[], KeyValues]:
    def watched() -> KeyValues:
        states = begin()
        seen.append(weakref.ref(states))
        return states

    return watched


def test_a_cancelled_request_leaves_and_its_memory_is_free_while_others_go_on(model: LanguageModel) -> None:
    batch, gone, seen = BatchDecode(model), threading.Event(), list[weakref.ref[Any]]()
    left, other = prompt(model, *TEXTS[:4]), prompt(model, TEXTS[1])
    token = cancelled.set(gone.is_set)
    meter = Meter()
    cancelled.reset(token)
    begin = watch(lambda: model.begin(left, meter, 500), seen)
    tokens = batch.tokens(begin, left.ids[-1], Sampler(Sampling(1.0)), 500, meter)
    next(tokens)
    gone.set()
    assert seen[0]() is not None
    running = answer(batch, other, 12)
    found = [next(running)]
    assert seen[0]() is None  # at the step of somebody else; its own thread has not come back
    assert found + list(running) == list(answer(BatchDecode(model), other, 12))
    with pytest.raises(Cancelled):
        list(tokens)
    assert batch._inside == []


def test_closing_the_tokens_leaves_the_batch_and_frees_the_memory(model: LanguageModel) -> None:
    batch, seen = BatchDecode(model, 1), list[weakref.ref[Any]]()
    asked = prompt(model, TEXTS[0])
    tokens = batch.tokens(
        watch(lambda: model.begin(asked, Meter(), 99), seen), asked.ids[-1], Sampler(GREEDY), 99, Meter()
    )
    next(tokens)
    tokens.close()
    assert seen[0]() is None
    assert list(answer(batch, asked)) == list(answer(BatchDecode(model, 1), asked))


def test_a_finished_answer_frees_its_memory_before_it_is_fetched(model: LanguageModel) -> None:
    batch, seen = BatchDecode(model), list[weakref.ref[Any]]()
    asked = prompt(model, TEXTS[0])
    tokens = batch.tokens(
        watch(lambda: model.begin(asked, Meter(), 3), seen), asked.ids[-1], Sampler(GREEDY), 3, Meter()
    )
    next(tokens)
    list(answer(batch, prompt(model, TEXTS[1])))
    assert seen[0]() is None
    assert len(list(tokens)) == 2


def test_a_waiting_request_that_is_given_up_leaves_the_queue(model: LanguageModel) -> None:
    batch, gone = BatchDecode(model, 1), threading.Event()
    first = answer(batch, prompt(model, TEXTS[0]))
    next(first)

    def wait() -> None:
        cancelled.set(gone.is_set)
        with pytest.raises(Cancelled):
            next(answer(batch, prompt(model, TEXTS[1])))

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait)
        until(lambda: len(batch._queue) == 1)
        gone.set()
        waiting.result(20)
    assert len(batch._queue) == 0
    first.close()  # type: ignore[attr-defined]
    assert list(answer(batch, prompt(model, TEXTS[1])))


# --- memory ---


def test_a_pass_that_memory_is_too_short_for_is_halved(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = model.forward

    def short(ids: Any, states: Any, *rest: Any, **more: Any) -> Any:
        if isinstance(states, RowStates) and sum(row is not None for row in states.rows) > 1:
            raise MemoryError
        return forward(ids, states, *rest, **more)

    asked = [prompt(model, text) for text in TEXTS[:5]]
    alone = [list(answer(BatchDecode(model), one)) for one in asked]
    monkeypatch.setattr(model, "forward", short)
    batch = Watched(model)
    assert together([lambda one=one: list(answer(batch, one)) for one in asked]) == alone  # type: ignore[misc]
    assert {1, 2} <= set(batch.rows_of_passes)


def test_a_row_that_memory_is_too_short_for_alone_is_told_so(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, other = prompt(model, *TEXTS), prompt(model, TEXTS[0])
    expected = list(answer(BatchDecode(model), other))
    forward = model.forward

    def short(ids: Any, states: Any, *rest: Any, **more: Any) -> Any:
        if isinstance(states, RowStates) and any(row and row.length > len(long.ids) for row in states.rows):
            raise MemoryError
        return forward(ids, states, *rest, **more)

    monkeypatch.setattr(model, "forward", short)
    batch = BatchDecode(model)

    def too_long() -> str:
        with pytest.raises(ModelOutOfMemory, match=r"no memory for a prompt of .* tokens"):
            list(answer(batch, long))
        return "told"

    assert together([too_long, lambda: list(answer(batch, other))]) == ["told", expected]


def test_a_prompt_without_memory_waits_until_another_answer_is_done(model: LanguageModel) -> None:
    batch = BatchDecode(model)
    running = answer(batch, prompt(model, TEXTS[0]), 30)
    next(running)
    asked, meter, tries = prompt(model, TEXTS[1]), Meter(), list[int]()

    def begin() -> KeyValues:
        tries.append(len(tries))
        if len(tries) == 1:
            raise ModelOutOfMemory("full")
        return model.begin(asked, meter, 24)

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(lambda: list(batch.tokens(begin, asked.ids[-1], Sampler(GREEDY), 24, meter)))
        until(lambda: tries == [0])
        time.sleep(0.1)
        assert tries == [0]
        list(running)
        assert other.result(20) == list(answer(BatchDecode(model), asked))
    assert tries == [0, 1]


def test_a_prompt_without_memory_is_an_error_where_nobody_else_holds_any(model: LanguageModel) -> None:
    batch = BatchDecode(model, 1)

    def begin() -> KeyValues:
        raise ModelOutOfMemory("full")

    with pytest.raises(ModelOutOfMemory, match="full"):
        next(batch.tokens(begin, 1, Sampler(GREEDY), 24, Meter()))
    assert list(answer(batch, prompt(model, TEXTS[0])))


def test_an_error_of_one_row_is_not_that_of_another(model: LanguageModel) -> None:
    batch = BatchDecode(model)
    bad, good = prompt(model, TEXTS[0]), prompt(model, TEXTS[1])

    def broken() -> str:
        with pytest.raises(AssertionError, match=f"{len(bad.ids) + 6} tokens in room for {len(bad.ids) + 5}"):
            list(batch.tokens(lambda: model.begin(bad, Meter(), 5), bad.ids[-1], Sampler(GREEDY), 24, Meter()))
        return "broken"

    assert together([broken, lambda: list(answer(batch, good))]) == ["broken", list(answer(BatchDecode(model), good))]
