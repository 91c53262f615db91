"""Pointwise reranking: scores are those of single whole prompts, and a stop keeps what was scored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from rag.reranking import prompts
from rag.reranking.pointwise import PointwiseReranker
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Cancelled, Limits, cancelled
from rag.values import Query, ScoreKind
from tests.rag.rankings import ScriptedReader, numbers, ranking_of
from tests.tiny_models import FAMILIES, SENTENCES, loaded, one_thread, plain_model

__all__ = ["one_thread"]
ASKED = Query("When was the lighthouse built?")


def even_or_odd(shown: list[str]) -> list[float]:
    """Yes by the passage's number, No by 5."""
    return [float(shown[0].split()[-1]), 5.0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompts_are_whole_questions(family: str) -> None:
    model = loaded(family)
    form = prompts.yes_no(model, ASKED.text)
    written = model.tokenizer.decode(form.write([model.tokenizer.encode("In 1871.")]).ids)
    assert (
        f'Given a query "{ASKED.text}", does the following passage answer the query?\n\nPassage: "In 1871."\n\n'
        "Answer Yes or No:"
    ) in written
    assert written.endswith(model.family.chat.assistant)
    asked = prompts.likelihood(model, ASKED.text).write([model.tokenizer.encode(" In 1871.")])
    written = model.tokenizer.decode(asked.ids)
    order = "Passage: In 1871.\nPlease write a question based on this passage."
    assert f"{order}{model.family.chat.assistant}{ASKED.text}" in written
    assert model.tokenizer.decode(asked.segments[-1].ids) == ASKED.text


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_log_odds_and_mean_log_likelihoods_of_single_prompts(family: str) -> None:
    import torch

    model, plain = loaded(family), plain_model(family)
    yes_no, likelihood = prompts.yes_no(model, ASKED.text), prompts.likelihood(model, ASKED.text)
    odds, means = {}, {}
    for i, text in enumerate(SENTENCES):
        with torch.inference_mode():
            logits = plain(torch.tensor([yes_no.write([model.tokenizer.encode(text)]).ids])).logits[0, -1]
            prompt = likelihood.write([model.tokenizer.encode(f" {text}")])
            target = prompt.segments[-1].ids
            rows = plain(torch.tensor([prompt.ids])).logits[0, -len(target) - 1 : -1].log_softmax(-1)
        odds[i] = float(logits[yes_no.labels[0]] - logits[yes_no.labels[1]])
        means[i] = sum(float(row[token]) for row, token in zip(rows, target, strict=True)) / len(target)
    found = PointwiseReranker(model).rerank(ASKED, ranking_of(*SENTENCES))
    assert {int(hit.chunk.doc_id): hit.score for hit in found} == pytest.approx(odds, abs=1e-5)
    assert found.kind is ScoreKind.SIGMOID_LOGIT
    found = PointwiseReranker(model, "likelihood").rerank(ASKED, ranking_of(*SENTENCES))
    assert {int(hit.chunk.doc_id): hit.score for hit in found} == pytest.approx(means, abs=1e-5)
    assert found.kind is ScoreKind.LIKELIHOOD
    assert found.relevance(found[0]) == pytest.approx(math.exp(found[0].score))


def test_the_first_label_is_yes() -> None:
    texts = ranking_of("x 3", "x 9", "x 3", "x 6")
    found = PointwiseReranker(ScriptedReader(even_or_odd)).rerank(ASKED, texts)
    assert numbers(found) == [1, 3, 0, 2]
    assert [round(hit.score) for hit in found] == [4, 1, -2, -2]


@pytest.mark.parametrize("kind", ["yes-no", "likelihood"])
def test_the_lexical_reader_puts_shared_words_first(kind: str) -> None:
    texts = ranking_of("cheese and puffins here", "the lighthouse stands", "", "the lighthouse was built")
    found = PointwiseReranker(LexicalReader(), kind).rerank(ASKED, texts)  # type: ignore[arg-type]
    assert numbers(found) == [3, 1, 0, 2]


def test_one_passage_is_scored_and_stands_before_those_without_text() -> None:
    found = PointwiseReranker(ScriptedReader(even_or_odd)).rerank(ASKED, ranking_of(" ", "x 7"))
    assert numbers(found) == [1, 0]
    assert found[0].score == pytest.approx(2.0)


@pytest.mark.parametrize("texts", [(), (" ", "")])
def test_without_a_passage_no_model_is_asked(texts: Sequence[str]) -> None:
    reader = ScriptedReader(even_or_odd)
    found = PointwiseReranker(reader).rerank(ASKED, ranking_of(*texts))
    assert (len(found), reader.shown, found.report.passes) == (len(texts), [], 0)


def test_at_a_limit_what_was_scored_stands_before_the_rest() -> None:
    texts = ranking_of(*[f"x {i}" for i in range(80)])
    reader = ScriptedReader(even_or_odd)
    limit = int(0.9 * PointwiseReranker(reader).rerank(ASKED, texts).report.tokens)
    found = PointwiseReranker(reader, limits=Limits(max_prefill_tokens=limit)).rerank(ASKED, texts)
    assert found.report.degraded == f"partial, 64 of 80 passages were scored: max_prefill_tokens = {limit} is used up"
    assert numbers(found) == [*reversed(range(64)), *range(64, 80)]
    assert 0 < found.report.tokens <= limit


def test_scores_that_are_no_numbers_stand_last_and_are_told() -> None:
    reader = ScriptedReader(lambda shown: [math.nan if shown == ["x 1"] else 1.0, 0.0])
    found = PointwiseReranker(reader).rerank(ASKED, ranking_of("x 1", "x 2", "x 3"))
    assert numbers(found) == [1, 2, 0]
    assert found.report.degraded == "1 scores were not numbers"


@pytest.mark.parametrize("kind", ["yes-no", "likelihood"])
def test_a_query_without_text_orders_nothing(kind: str) -> None:
    found = PointwiseReranker(LexicalReader(), kind).rerank(Query("  "), ranking_of("a", "b"))  # type: ignore[arg-type]
    assert numbers(found) == [0, 1]


def test_a_cancelled_request_gives_no_ranking() -> None:
    token = cancelled.set(lambda: True)
    try:
        with pytest.raises(Cancelled):
            PointwiseReranker(LexicalReader()).rerank(ASKED, ranking_of("a", "b"))
    finally:
        cancelled.reset(token)
