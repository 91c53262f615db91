"""FIRST: windows, the prompt with letters, and rankings by scripted and real models."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import InvalidConfig
from rag.reranking import prompts
from rag.reranking.listwise import ListwiseReranker, fitting, windows
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Limits
from rag.values import Query, ScoreKind
from tests.rag.rankings import ScriptedReader, by_number, first_shown, not_a_number, numbers, ranking_of
from tests.tiny_models import FAMILIES, SENTENCES, loaded, one_thread, plain_model

__all__ = ["one_thread"]
ASKED = Query("q")


# --- windows ---


def test_a_hundred_passages_are_nine_windows() -> None:
    found = windows(100, 20, 10)
    assert (len(found), found[0], found[-1]) == (9, (80, 100), (0, 20))


@given(st.integers(1, 120), st.integers(2, 20), st.data())
def test_windows_climb_by_at_most_a_stride_to_the_top(n: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window - 1))
    found = windows(n, window, stride)
    assert found[0][1] == n
    assert found[-1][0] == 0
    assert all(end - start == min(n, window) for start, end in found)
    assert all(1 <= lower[0] - upper[0] <= stride for lower, upper in pairwise(found))


def test_a_window_shrinks_until_its_longest_passages_fit() -> None:
    form = prompts.listwise(LexicalReader(), "q", 6)
    passages = [[1] * size for size in (3, 50, 10, 40, 5, 5)]
    assert fitting(form, passages, 6, form.overhead(6) + 113) == 6
    assert fitting(form, passages, 6, form.overhead(6) + 112) == 5  # a window of five has less around its passages
    assert fitting(form, passages, 6, form.overhead(3) + 100) == 3
    assert fitting(form, passages, 6, 10) == 2


# --- the prompt ---


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompt_is_rankllms_with_letters_and_ends_in_a_bracket(family: str) -> None:
    model = loaded(family)
    form = prompts.listwise(model, "Who?", 3)
    written = model.tokenizer.decode(form.write(model.tokenizer.encode_many([" One.", " Two."])).ids)
    assert (
        "I will provide you with 2 passages, each indicated by an alphabetical identifier []. "
        "Rank the passages based on their relevance to the search query: Who?.\n"
        "[A] One.\n[B] Two.\nSearch Query: Who?.\nRank the 2 passages above"
    ) in written
    assert written.endswith("[")
    assert [model.tokenizer.decode([label]) for label in form.labels] == ["A", "B", "C"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_is_that_of_the_letters_logits(family: str) -> None:
    import torch

    model = loaded(family)
    form = prompts.listwise(model, "Who?", len(SENTENCES))
    prompt = form.write(model.tokenizer.encode_many([f" {text}" for text in SENTENCES]))
    with torch.inference_mode():
        logits = plain_model(family)(torch.tensor([prompt.ids])).logits[0, -1, list(form.labels)]
    found = ListwiseReranker(model).rerank(Query("Who?"), ranking_of(*SENTENCES))
    assert numbers(found) == logits.argsort(descending=True).tolist()


# --- rankings ---


def test_a_perfect_model_lifts_the_best_of_a_stride_from_anywhere() -> None:
    """What one sweep brings to the top: window - stride passages."""
    texts = [f"text {i}" for i in random.Random(2).sample(range(60), 60)]
    reader = ScriptedReader(by_number)
    found = ListwiseReranker(reader, window=10, stride=5).rerank(ASKED, ranking_of(*texts))
    expected = sorted(range(60), key=lambda i: -int(texts[i].split()[1]))
    assert numbers(found)[:5] == expected[:5]
    assert found.report.notes == (f"{len(reader.shown)} windows of 10 passages",)
    assert (found.kind, found.bound, found[0].score) == (ScoreKind.RANK, 60.0, 60.0)


def test_one_window_is_sorted_whole() -> None:
    found = ListwiseReranker(ScriptedReader(by_number)).rerank(ASKED, ranking_of("x 2", "x 7", "x 7", "x 1"))
    assert numbers(found) == [1, 2, 0, 3]


@pytest.mark.parametrize("script", [first_shown, lambda shown: [0.0] * len(shown), not_a_number])
def test_equal_letters_keep_their_order(script: object) -> None:
    reader = ScriptedReader(script)  # type: ignore[arg-type]
    found = ListwiseReranker(reader, 4, 2).rerank(ASKED, ranking_of(*"abcdefghijklm"))
    assert numbers(found) == list(range(13))
    expected = "6 windows had scores that were not numbers and kept their order" if script is not_a_number else ""
    assert found.report.degraded == expected


def test_passages_without_text_are_never_shown_and_stay_behind() -> None:
    reader = ScriptedReader(by_number)
    found = ListwiseReranker(reader, depth=5).rerank(ASKED, ranking_of("", "x 1", "\t", "x 3", "x 2", "x 9"))
    assert numbers(found) == [3, 4, 1, 0, 2, 5]
    assert reader.shown == [["x 1", "x 3", "x 2"]]


@pytest.mark.parametrize("texts", [(), ("one",), (" ", "one"), (" ", "")])
def test_without_two_passages_no_model_is_asked(texts: Sequence[str]) -> None:
    reader = ScriptedReader(by_number)
    found = ListwiseReranker(reader).rerank(ASKED, ranking_of(*texts))
    assert (len(found), reader.shown, found.report.passes) == (len(texts), [], 0)


def test_a_short_context_makes_short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ScriptedReader(by_number)
    form = prompts.listwise(reader, "q", 8)
    longest = len(reader.tokenizer.encode(" text 10"))
    monkeypatch.setattr(LexicalReader, "context", form.overhead(3) + 3 * longest)
    found = ListwiseReranker(reader, 8, 4).rerank(ASKED, ranking_of(*[f"text {i}" for i in range(10, 20)]))
    assert max(map(len, reader.shown)) == 3
    assert "3 passages a window fit the model's context" in found.report.notes
    assert numbers(found)[0] == 9


def test_at_a_limit_the_windows_read_so_far_count() -> None:
    texts = ranking_of(*[f"text {i}" for i in range(50)])
    reader = ScriptedReader(by_number)
    limit = int(0.6 * ListwiseReranker(reader).rerank(ASKED, texts).report.tokens)
    found = ListwiseReranker(reader, limits=Limits(max_prefill_tokens=limit)).rerank(ASKED, texts)
    assert 0 < found.report.tokens <= limit
    assert found.report.degraded == f"partial, 2 of 4 windows were read: max_prefill_tokens = {limit} is used up"
    assert numbers(found)[:20] == list(range(20))
    assert numbers(found)[20] == 49


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (21, 10), (10, 0), (10, 10)])
def test_windows_that_would_not_climb_are_refused(window: int, stride: int) -> None:
    with pytest.raises(InvalidConfig, match=f"window = {window}, stride = {stride}; a window has 2 to 20 passages"):
        ListwiseReranker(LexicalReader(), window, stride)
