"""Attention reranking as a stage. The models have random weights: mechanics, no merit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rag.errors import InvalidConfig
from rag.reranking.attention import AttentionReranker
from rag.reranking.heads import HeadSet, write
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Cancelled, Limits, cancelled
from rag.values import Chunk, Hit, Query, Ranking, ScoreKind, StageReport
from tests.tiny_models import FAMILIES, loaded

QUESTION = Query("How high is the lighthouse of Vendel?")
TEXTS = (
    "The ferry takes thirty minutes in summer.",
    "Puffins nest on the western cliffs.",
    "The lighthouse of Vendel rises 42 metres, so high is it.",
    "Cheese is made of sheep's milk on two farms.",
)


def ranking_of(texts: Sequence[str]) -> Ranking:
    chunks = [Chunk(f"{i:03}", f"{i:03}", text, 0, len(text)) for i, text in enumerate(texts)]
    hits = tuple(Hit(chunk, float(len(texts) - i)) for i, chunk in enumerate(chunks))
    return Ranking(hits, ScoreKind.BM25, StageReport("bm25"))


def order(ranking: Ranking) -> list[int]:
    return [int(hit.chunk.id) for hit in ranking]


def test_the_stand_in_model_ranks_by_the_words_of_the_question() -> None:
    again = AttentionReranker(LexicalReader()).rerank(QUESTION, ranking_of(TEXTS))
    assert order(again)[0] == 2
    assert again.kind is ScoreKind.ATTENTION
    assert 0.5 < again.relevance(again[0]) <= 1.0


def test_reports_what_the_model_computed() -> None:
    report = AttentionReranker(loaded("llama")).rerank(QUESTION, ranking_of(TEXTS)).report
    assert report.passes == 3
    assert report.tokens > sum(map(len, TEXTS)) // 8
    assert report.peak_mb > 0


def test_the_calibration_of_a_list_is_computed_once() -> None:
    reranker = AttentionReranker(loaded("llama"))
    first = reranker.rerank(QUESTION, ranking_of(TEXTS))
    second = reranker.rerank(QUESTION, ranking_of(TEXTS))
    assert [hit.score for hit in first] == [hit.score for hit in second]
    assert (first.report.passes, second.report.passes) == (3, 2)
    assert second.report.tokens < first.report.tokens
    other = reranker.rerank(Query("Where do puffins nest?"), ranking_of(TEXTS))
    assert other.report.passes == 2
    assert (
        other[0].score
        == AttentionReranker(loaded("llama")).rerank(Query("Where do puffins nest?"), ranking_of(TEXTS))[0].score
    )


def test_token_contributions_add_up_to_the_scores() -> None:
    reranker = AttentionReranker(loaded("llama"))
    scores = {hit.chunk.id: hit.score for hit in reranker.rerank(QUESTION, ranking_of(TEXTS))}
    found = reranker.contributions(QUESTION, ranking_of(TEXTS))
    assert {c.chunk_id: pytest.approx(sum(c.values), abs=1e-6) for c in found} == scores


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_joined_are_the_passage(family: str) -> None:
    texts = ["The lighthouse rises.", "灯台は高い", "שלום עולם"]
    found = AttentionReranker(loaded(family)).contributions(QUESTION, ranking_of(texts))
    assert ["".join(c.tokens).strip().split("] ")[1] for c in found] == texts


def test_the_best_hit_stands_last_unless_told_otherwise() -> None:
    """Position matters to a model, so the two orders give different scores."""
    last = AttentionReranker(loaded("llama")).rerank(QUESTION, ranking_of(TEXTS))
    first = AttentionReranker(loaded("llama"), best_last=False).rerank(QUESTION, ranking_of(TEXTS))
    assert [hit.score for hit in last] != [hit.score for hit in first]


def test_a_list_longer_than_the_context_is_read_in_windows() -> None:
    texts = [f"{TEXTS[i % 4]} {'x ' * 150}" for i in range(40)]
    again = AttentionReranker(loaded("llama")).rerank(QUESTION, ranking_of(texts))
    assert sorted(order(again)) == list(range(40))
    assert any("windows with common anchors" in note for note in again.report.notes)
    scores = [hit.score for hit in again]
    assert scores == sorted(scores, reverse=True)
    assert again.report.degraded == ""


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["one"],
        ["same", "same", "same"],
        ["", "   ", "\n"],
        ["", "text", " "],
        ["[3] of [1]", "<|eot_id|>", "שלום עולם"],
    ],
)
def test_odd_lists_keep_all_their_chunks(texts: list[str]) -> None:
    again = AttentionReranker(loaded("llama")).rerank(QUESTION, ranking_of(texts))
    assert sorted(order(again)) == list(range(len(texts)))
    assert again.report.degraded == ""


def test_passages_without_text_stay_behind_in_their_order() -> None:
    again = AttentionReranker(loaded("llama")).rerank(QUESTION, ranking_of(["", "a b c", " ", "d e f"]))
    assert order(again)[2:] == [0, 2]


def test_a_document_longer_than_the_context_is_cut_and_said() -> None:
    again = AttentionReranker(loaded("llama"), passage_tokens=0).rerank(
        QUESTION, ranking_of(["word " * 5000, TEXTS[2]])
    )
    assert again.report.degraded == ""
    assert again.report.notes[0].startswith("1 passages may be cut at")


def test_a_long_question_is_cut_and_said() -> None:
    again = AttentionReranker(loaded("llama")).rerank(Query("why " * 3000), ranking_of(TEXTS))
    assert "tokens" in again.report.notes[0]
    assert "query was cut" in again.report.notes[0]


def test_a_token_limit_shortens_the_list_and_says_so() -> None:
    whole = AttentionReranker(loaded("llama")).rerank(QUESTION, ranking_of(TEXTS * 4))
    limit = whole.report.tokens // 2
    part = AttentionReranker(loaded("llama"), limits=Limits(max_prefill_tokens=limit)).rerank(
        QUESTION, ranking_of(TEXTS * 4)
    )
    assert 0 < part.report.tokens <= limit
    assert part.report.degraded.startswith("partial, ")
    assert sorted(order(part)) == list(range(16))
    compared = int(part.report.degraded.split()[1])
    assert 2 <= compared < 16
    assert order(part)[compared:] == list(range(compared, 16))


def test_no_time_leaves_the_order_and_says_so() -> None:
    again = AttentionReranker(loaded("llama"), limits=Limits(deadline_ms=1e-6)).rerank(QUESTION, ranking_of(TEXTS))
    assert order(again) == [0, 1, 2, 3]
    assert again.report.degraded.startswith("partial, 0 of 4 passages were compared: deadline_ms")


def test_a_request_that_was_given_up_stops() -> None:
    token = cancelled.set(lambda: True)
    try:
        with pytest.raises(Cancelled):
            AttentionReranker(loaded("llama")).rerank(QUESTION, ranking_of(TEXTS))
    finally:
        cancelled.reset(token)


def test_head_sets_come_from_files_and_must_fit(tmp_path: object) -> None:
    model = loaded("llama")
    with pytest.raises(InvalidConfig, match="known: auto, all, qrhead-llama"):
        AttentionReranker(model, heads="nonsense").rerank(QUESTION, ranking_of(TEXTS))
    with pytest.raises(InvalidConfig, match=r"has heads 14-22.*3 layers of 4 heads"):
        AttentionReranker(model, heads="qrhead-llama-3.1-8b-nq").rerank(QUESTION, ranking_of(TEXTS))


def test_a_head_set_of_another_model_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    model, path = loaded("llama"), tmp_path_factory.mktemp("heads") / "mine.toml"
    write(path, HeadSet("mine", ((0, 1), (1, 3)), "other", 'found "here"', "other:0000"))
    with pytest.raises(InvalidConfig, match="was found for other:0000"):
        AttentionReranker(model, heads=str(path)).rerank(QUESTION, ranking_of(TEXTS))
    write(path, HeadSet("mine", ((0, 1), (1, 3)), model.name, 'found "here"', model.fingerprint))
    some = AttentionReranker(model, heads=str(path)).rerank(QUESTION, ranking_of(TEXTS))
    every = AttentionReranker(model).rerank(QUESTION, ranking_of(TEXTS))
    assert some[0].score != every[0].score
    assert some.report.peak_mb < every.report.peak_mb
