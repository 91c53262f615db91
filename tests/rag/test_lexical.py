"""The reader without weights: what it answers can be redone by hand."""

from __future__ import annotations

import subprocess
import sys
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import InvalidInput
from rag.reranking import prompts
from rag.reranking.attention import AttentionReranker
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Cancelled, Limits, Meter, OutOfBudget
from rag.runtime.prompt import Prompt, Role, Segment
from rag.runtime.reader import Reader
from rag.values import Query
from tests.rag.rankings import numbers, ranking_of

READER = LexicalReader()


def segment(text: str, role: Role = Role.TEMPLATE) -> Segment:
    return Segment(tuple(READER.tokenizer.encode(text)), role)


def prompt(query: str, *passages: str, shared: int = 0) -> Prompt:
    return Prompt((segment(query, Role.QUERY), *(segment(text, Role.PASSAGE) for text in passages)), shared)


def test_is_a_reader_and_the_same_in_every_process() -> None:
    assert isinstance(READER, Reader)
    assert READER.fingerprint == LexicalReader().fingerprint
    assert READER.family.name == "plain"


def test_needs_no_torch() -> None:
    code = (
        "import sys; from rag.runtime.lexical import LexicalReader; LexicalReader().tokenizer.encode('a'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_its_tokens_are_the_text(text: str) -> None:
    assert READER.tokenizer.decode(READER.tokenizer.encode(text)) == text
    assert READER.tokenizer.encode_many([text]) == [READER.tokenizer.encode(text)]


def test_a_token_has_about_two_letters() -> None:
    text = "The lighthouse of Vendel was built in eighteen seventy-one and rises high above the sea"
    assert len(READER.tokenizer.encode(text)) < len(text) / 1.7


# --- attention ---


def test_attention_reranking_orders_by_shared_words() -> None:
    ranking = ranking_of("cheese", "a lighthouse", "the lighthouse of Vendel was built in 1871", "Vendel's lighthouse")
    found = AttentionReranker(READER).rerank(Query("When was the lighthouse of Vendel built?"), ranking)
    assert numbers(found) == [2, 3, 1, 0]  # lighthouse, Vendel, built | lighthouse, Vendel | lighthouse | -


def test_words_of_the_instruction_do_not_count() -> None:
    ranking = ranking_of("information relevant to the following query in the paragraphs above", "a ferry")
    assert numbers(AttentionReranker(READER).rerank(Query("ferry"), ranking)) == [1, 0]


def test_each_shared_word_has_one_unit_spread_over_its_tokens() -> None:
    """Passages of 3 and 1 different words: a unit is 4 heads / 4 words = 1."""
    prefix = prompt("", "red fox fox runs", "owl")
    [mass] = READER.attention(prefix, [prompt("fox owl")], Meter())
    first = len(prefix.segments[1].ids)
    assert mass.shape == (len(prefix.ids),)
    assert mass[:first].sum() == pytest.approx(1.0)
    assert mass[first:].sum() == pytest.approx(1.0)
    assert READER.attention(prefix, [prompt("fox owl")], Meter(), {0: (1,)})[0].sum() == pytest.approx(2 * 1 / 4)


@given(st.lists(st.text("ab é日🙂 ", max_size=20), max_size=4), st.text("ab é日🙂 ", max_size=20))
def test_attention_adds_up_to_at_most_one_a_head(passages: list[str], query: str) -> None:
    prefix = prompt("", *passages)
    [mass] = READER.attention(prefix, [prompt(query)], Meter())
    [heads] = READER.head_attention(prefix, [prompt(query)], Meter())
    assert mass.min(initial=0.0) >= 0.0
    assert mass.sum() <= 4.0 + 1e-5
    assert heads.shape == (2, 2, len(prefix.ids))
    assert np.allclose(heads.sum(axis=(0, 1)), mass)


# --- labels and likelihood ---


def test_labels_score_by_the_share_of_the_querys_words() -> None:
    scores = READER.labels([prompt("red fox", "a red fox", "a red owl")], [5, 6], Meter())
    assert scores[0, 0] - scores[0, 1] == pytest.approx(8 * (2 / 2 - 1 / 2))
    assert np.exp(scores).sum() == pytest.approx(1.0)


def test_one_passage_and_two_labels_are_yes_and_no() -> None:
    scores = READER.labels([prompt("red fox", text) for text in ("red fox", "red", "owl")], [5, 6], Meter())
    assert (scores[:, 0] - scores[:, 1]).tolist() == pytest.approx([4.0, 0.0, -4.0])


def test_a_label_without_a_passage_is_never_chosen() -> None:
    scores = READER.labels([prompt("fox", "owl", "cat")], [5, 6, 7], Meter())
    assert scores[0, 2] < -20 < scores[0, 1] == scores[0, 0] == pytest.approx(log(1 / 2))


def test_likelihood_is_the_mean_log_of_smoothed_counts() -> None:
    asked = Prompt((segment("red red fox", Role.PASSAGE), segment("Question:"), segment("red owl", Role.QUERY)))
    [found] = READER.likelihood([asked], Meter())
    assert found == pytest.approx((log((2 + 0.5) / (3 + 5000)) + log(0.5 / (3 + 5000))) / 2)
    assert exp(found) < 1


def test_a_likelihood_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="needs a last segment with tokens"):
        READER.likelihood([prompt("fox", "")], Meter())


# --- counts ---


def test_counts_shared_beginnings_once_a_call() -> None:
    meter = Meter()
    asked = [prompt("red fox", "owl", text, shared=2) for text in ("cat", "a hen")]
    READER.labels(asked, [5, 6], meter)
    head, tails = len(asked[0].ids) - len(asked[0].tail), [len(one.tail) for one in asked]
    assert (meter.prefill, meter.passes) == (head + sum(tails), 3)  # query, query + owl, both tails
    READER.attention(asked[0], [asked[0], asked[1]], meter)
    assert meter.passes == 3 + 1 + 2


def test_stops_where_the_meter_says() -> None:
    asked = [prompt("red fox", "owl")]
    tokens = len(asked[0].ids)
    READER.labels(asked, [5, 6], Meter(Limits(max_prefill_tokens=tokens)))
    meter = Meter(Limits(max_prefill_tokens=tokens - 1))
    with pytest.raises(OutOfBudget):
        READER.labels(asked, [5, 6], meter)
    with pytest.raises(Cancelled):
        READER.likelihood(asked, Meter(gone=lambda: True))
    assert meter.prefill == 0


def test_a_prompt_beyond_its_context_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LexicalReader, "context", 5)
    with pytest.raises(InvalidInput, match="longer than the 5 tokens"):
        READER.labels([prompt("red fox", "owl and hen")], [5, 6], Meter())


def test_all_forms_have_labels_that_can_be_told_apart() -> None:
    assert len(prompts.setwise(READER, "q", 23).labels) == 23
    assert len(prompts.listwise(READER, "q", 20).labels) == 20
    assert len(prompts.pairwise(READER, "q").labels) == len(prompts.yes_no(READER, "q").labels) == 2
