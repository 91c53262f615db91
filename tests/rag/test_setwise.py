"""Setwise prompting: the prompt, the choice, and rankings by scripted and real models."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest

from rag.errors import InvalidConfig
from rag.reranking import prompts
from rag.reranking.setwise import Chooser, SetwiseReranker, Sort
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Limits, Meter
from rag.values import Query, ScoreKind
from tests.rag.rankings import Script, ScriptedReader, by_number, first_shown, not_a_number, numbers, ranking_of
from tests.tiny_models import FAMILIES, loaded, one_thread, plain_model

__all__ = ["one_thread"]
SORTS = get_args(Sort)
ASKED = Query("q")


def chooser(reader: LexicalReader, *texts: str) -> Chooser:
    form = prompts.setwise(reader, "q", len(texts))
    return Chooser(reader, form, reader.tokenizer.encode_many(texts), Meter())


# --- the prompt ---


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompt_is_the_published_one(family: str) -> None:
    model = loaded(family)
    form = prompts.setwise(model, "Who?", 4)
    written = model.tokenizer.decode(form.write(model.tokenizer.encode_many(["One.", "Two.", "Three."])).ids)
    assert (
        'Given a query "Who?", which of the following passages is the most relevant one to the query?\n\n'
        'Passage A: "One."\n\nPassage B: "Two."\n\nPassage C: "Three."\n\n'
        "Output only the passage label of the most relevant passage:"
    ) in written
    assert written.endswith("Passage")
    assert [model.tokenizer.decode([label]).strip() for label in form.labels] == ["A", "B", "C", "D"]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_chooses_what_single_whole_prompts_choose(family: str) -> None:
    import torch

    model = loaded(family)
    texts = ["Puffins nest.", "A lighthouse, built in 1871.", "Cheese", "The ferry does not sail on Sundays."]
    asking = chooser(model, *texts)  # type: ignore[arg-type]
    groups = [(0, 1, 2, 3), (3, 2), (1, 2, 0)]
    expected = []
    for group in groups:
        prompt = asking._form.write([asking._passages[document] for document in group])
        with torch.inference_mode():
            logits = plain_model(family)(torch.tensor([prompt.ids])).logits[0, -1]
        expected.append(int(logits[list(asking._form.labels[: len(group)])].argmax()))
    assert asking.best(groups) == expected


# --- the choice ---


def test_the_best_is_the_first_of_equals_among_those_shown() -> None:
    asking = chooser(ScriptedReader(by_number), "text 1", "text 5", "text 5", "text 3")
    assert asking.best([(0, 1, 2, 3), (2, 1), (0, 3)]) == [1, 0, 1]


def test_survivors_are_the_best_by_score_and_equals_by_place() -> None:
    asking = chooser(ScriptedReader(by_number), "text 1", "text 5", "text 5", "text 3")
    assert asking.keep([((3, 2, 0, 1), 3), ((0, 3), 1)]) == [(2, 1, 3), (3,)]


def test_a_score_that_is_no_number_is_the_lowest() -> None:
    asking = chooser(ScriptedReader(lambda shown: [float("nan"), -np.inf, -5.0]), "a", "b", "c")
    assert asking.best([(0, 1, 2)]) == [2]
    assert asking.questions.unclear == 1


# --- rankings ---


@pytest.mark.parametrize("group", [1, 3, 9])
@pytest.mark.parametrize("sort", ["insertion", "heapsort"])
def test_a_perfect_model_gives_the_k_best_and_leaves_the_rest(sort: Sort, group: int) -> None:
    texts = [f"text {i}" for i in random.Random(1).sample(range(40), 40)]
    reader = ScriptedReader(by_number)
    found = SetwiseReranker(reader, sort, k=6, depth=35, group=group).rerank(ASKED, ranking_of(*texts))
    expected = sorted(range(35), key=lambda i: -int(texts[i].split()[1]))
    assert numbers(found)[:6] == expected[:6]
    assert numbers(found)[6:] == [*sorted(expected[6:]), *range(35, 40)]
    assert max(map(len, reader.shown)) == group + 1
    assert found.report.notes == (f"{len(reader.shown)} groups were compared",)
    assert (found.kind, found.bound, found[0].score) == (ScoreKind.RANK, 35.0, 35.0)


def test_tourrank_plays_the_published_thirteen_prompts() -> None:
    reader = ScriptedReader(by_number)
    found = SetwiseReranker(reader, "tourrank").rerank(ASKED, ranking_of(*[f"text {i}" for i in range(100)]))
    assert len(reader.shown) == 5 + 5 + 1 + 1 + 1
    assert numbers(found)[:2] == [98, 99]  # both stood to the end: their tie goes by input rank
    SetwiseReranker(reader, "tourrank", tournaments=3).rerank(ASKED, ranking_of(*[f"text {i}" for i in range(100)]))
    assert len(reader.shown) == 13 + 3 * 13


@pytest.mark.parametrize("script", [first_shown, lambda shown: [0.0] * len(shown), not_a_number])
@pytest.mark.parametrize("sort", ["insertion", "heapsort"])
def test_a_model_that_prefers_the_first_or_nothing_changes_nothing(sort: Sort, script: Script) -> None:
    found = SetwiseReranker(ScriptedReader(script), sort).rerank(ASKED, ranking_of(*"abcdefghijklmnopqrstuvwxyz"))
    assert numbers(found) == list(range(26))
    assert bool(found.report.degraded) == (script is not_a_number)


@pytest.mark.parametrize("sort", SORTS)
def test_passages_without_text_are_never_shown_and_stay_behind(sort: Sort) -> None:
    reader = ScriptedReader(by_number)
    found = SetwiseReranker(reader, sort).rerank(ASKED, ranking_of(" \n", "text 1", "", "text 2", "text 2"))
    assert numbers(found) == [3, 4, 1, 0, 2]
    assert all(text for shown in reader.shown for text in shown)


@pytest.mark.parametrize("texts", [(), ("one",), (" ", "one"), (" ", "")])
def test_without_two_passages_no_model_is_asked(texts: Sequence[str]) -> None:
    reader = ScriptedReader(by_number)
    found = SetwiseReranker(reader).rerank(ASKED, ranking_of(*texts))
    assert (len(found), reader.shown, found.report.passes) == (len(texts), [], 0)


@pytest.mark.parametrize("sort", SORTS)
def test_at_a_limit_the_best_order_so_far_is_given_and_flagged(sort: Sort) -> None:
    texts = ranking_of(*[f"text {i}" for i in range(60)])
    reader = ScriptedReader(by_number)
    limit = int(0.8 * SetwiseReranker(reader, sort).rerank(ASKED, texts).report.tokens)
    found = SetwiseReranker(reader, sort, limits=Limits(max_prefill_tokens=limit)).rerank(ASKED, texts)
    assert 0 < found.report.tokens <= limit
    assert found.report.degraded.startswith("partial, ")
    assert " of 10 places were settled: max_prefill_tokens" in found.report.degraded
    assert sorted(numbers(found)) == list(range(60))
    assert numbers(found)[0] > 0


def test_passages_are_cut_so_that_a_group_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ScriptedReader(first_shown)
    monkeypatch.setattr(LexicalReader, "context", prompts.setwise(reader, "q", 4).overhead(4) + 4 * 7 + 3)
    found = SetwiseReranker(reader).rerank(ASKED, ranking_of(*["zq" * 50] * 6))
    assert "6 passages were cut at 7 tokens" in found.report.notes


@pytest.mark.parametrize("group", [0, 23])
def test_a_group_without_labels_is_refused(group: int) -> None:
    with pytest.raises(InvalidConfig, match=f"group = {group}; a prompt shows 2 to 23 passages"):
        SetwiseReranker(LexicalReader(), group=group)
