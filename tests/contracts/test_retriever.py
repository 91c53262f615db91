"""The contract of Retriever: what every retriever promises, single, fused or reranked."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from indexes.collection import Collection
from indexes.filters import parse_filter
from rag.encoders import SentenceEncoder
from rag.protocols import Retriever
from rag.reranking.cross_encoder import CrossEncoderModel, CrossEncoderReranker
from rag.reranking.sentences import SentenceReranker
from rag.retrieval.bm25 import Bm25
from rag.retrieval.composite import Fuse, Fused, Reranked
from rag.retrieval.dense import Dense
from rag.retrieval.fast_forward import FastForward
from rag.values import Query, Ranking

DEPTH = 30
QUERIES = (
    "How tall is the lighthouse of Vendel?",
    "puffins on the cliffs",
    "tide tables harbour office pier",
    "the of and",
    "bicycles on the ferry crossing 👩‍🚀 naïve Δ",
)
FERRIES = Query("crossing to the island", filter=parse_filter({"aspect": "ferry"}))


def fused(small: Collection, encoder: SentenceEncoder, fuse: Fuse, weights: tuple[float, ...] = (0.5, 0.5)) -> Fused:
    return Fused(retrievers=(Bm25(small), Dense(small, encoder)), weights=weights, fuse=fuse, depth=DEPTH)


Maker = Callable[[Collection, SentenceEncoder, CrossEncoderModel], Retriever]

RETRIEVERS: dict[str, Maker] = {
    "bm25": lambda c, e, m: Bm25(c),
    "dense": lambda c, e, m: Dense(c, e),
    "fast-forward": lambda c, e, m: FastForward(c, e, depth=DEPTH),
    "rrf": lambda c, e, m: fused(c, e, "rrf"),
    "minmax": lambda c, e, m: fused(c, e, "minmax"),
    "zscore": lambda c, e, m: fused(c, e, "zscore"),
    "theoretical": lambda c, e, m: fused(c, e, "theoretical", (0.2, 0.8)),
    "fused-of-fused": lambda c, e, m: Fused(
        retrievers=(FastForward(c, e, 0.0, DEPTH), fused(c, e, "rrf")), weights=(1, 1), fuse="theoretical", depth=DEPTH
    ),
    "reranked-sentences": lambda c, e, m: Reranked(fused(c, e, "minmax"), SentenceReranker(e, depth=5), DEPTH),
    "reranked-cross-encoder": lambda c, e, m: Reranked(Bm25(c), CrossEncoderReranker(m, depth=5), DEPTH),
}


@pytest.fixture(scope="module", params=RETRIEVERS)
def retriever(
    request: pytest.FixtureRequest,
    small: Collection,
    encoder: SentenceEncoder,
    random_cross_encoder: CrossEncoderModel,
) -> Retriever:
    return RETRIEVERS[request.param](small, encoder, random_cross_encoder)


def scored(ranking: Ranking) -> list[tuple[str, float]]:
    return [(hit.chunk.id, hit.score) for hit in ranking]


def test_is_a_retriever(retriever: Retriever) -> None:
    assert isinstance(retriever, Retriever)


@pytest.mark.parametrize("k", [1, 5, DEPTH])
def test_at_most_k_chunks_none_twice_best_first_ties_by_id(retriever: Retriever, k: int) -> None:
    for text in QUERIES:
        hits = scored(retriever.retrieve(Query(text), k))
        assert len(hits) <= k
        assert len({chunk_id for chunk_id, _ in hits}) == len(hits)
        assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))
    assert len(retriever.retrieve(Query(QUERIES[0]), k)) == k


def test_the_top_five_of_twenty_are_the_top_five(retriever: Retriever) -> None:
    for text in QUERIES:
        for k in (1, 5):
            assert scored(retriever.retrieve(Query(text), 20))[:k] == scored(retriever.retrieve(Query(text), k))


def test_of_two_chunks_with_one_text_the_smaller_id_comes_first_and_stays_at_the_cut(retriever: Retriever) -> None:
    """``twin-b`` was indexed before ``twin-a``."""
    found = [chunk_id for chunk_id, _ in scored(retriever.retrieve(Query(QUERIES[2]), DEPTH))]
    at = found.index("twin-a#0")
    assert found[at + 1] == "twin-b#0"
    cut = [chunk_id for chunk_id, _ in scored(retriever.retrieve(Query(QUERIES[2]), at + 1))]
    assert cut == found[: at + 1]


def test_many_queries_give_what_each_gives_alone(retriever: Retriever) -> None:
    queries = [*map(Query, QUERIES), FERRIES]
    together = retriever.retrieve_many(queries, 7)
    assert [scored(ranking) for ranking in together] == [scored(retriever.retrieve(query, 7)) for query in queries]
    assert retriever.retrieve_many([], 7) == []


def test_a_filter_holds_before_the_cut(retriever: Retriever) -> None:
    """40 ferries match, among 206 documents of which many match better."""
    ranking = retriever.retrieve(FERRIES, DEPTH)
    assert len(ranking) == DEPTH
    assert {hit.chunk.doc_id.split("-")[1] for hit in ranking} == {"ferry"}
    nothing = retriever.retrieve(Query("crossing", filter=parse_filter({"aspect": "no such"})), 5)
    assert len(nothing) == 0
    assert not any("filter names" in note for stage in nothing.stages() for note in stage.report.notes)


def test_a_field_that_no_document_has_is_told(retriever: Retriever) -> None:
    wrong = parse_filter({"or": [{"aspcet": "ferry"}, {"not": {"yaer": 3}}, {"aspect": "ferry"}]})
    found = retriever.retrieve(Query("crossing", filter=wrong), 5)
    notes = {note for stage in found.stages() for note in stage.report.notes}
    assert notes == {"the filter names 'aspcet', 'yaer', which no document of the collection has"}


def test_threads_change_nothing(retriever: Retriever) -> None:
    """But rounding, where texts of several threads share a pass of a model."""
    queries = [Query(text) for text in QUERIES] * 4
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(lambda query: scored(retriever.retrieve(query, 9)), queries))
    for found, query in zip(threaded, queries, strict=True):
        alone = dict(scored(retriever.retrieve(query, 9)))
        assert dict(found) == pytest.approx(alone, abs=1e-5)


def test_every_stage_reports_its_name_time_and_counts(retriever: Retriever) -> None:
    ranking = retriever.retrieve(Query(QUERIES[0]), 4)
    stages = list(ranking.stages())
    assert stages[-1] is ranking
    for stage in stages:
        assert stage.report.stage
        assert stage.report.seconds >= 0
        assert stage.report.n_out == len(stage)
        assert stage.report.n_in is None or stage.report.n_in >= stage.report.n_out
        assert (stage.report.n_in is None) == (not stage.inputs)
        assert not stage.report.degraded


def test_relevance_lies_between_0_and_1_and_never_contradicts_the_order(retriever: Retriever) -> None:
    for text in QUERIES:
        ranking = retriever.retrieve(Query(text), DEPTH)
        relevances = [ranking.relevance(hit) for hit in ranking]
        assert all(0.0 <= relevance <= 1.0 for relevance in relevances)
        assert relevances == sorted(relevances, reverse=True)


def test_a_question_of_nothing_searchable_is_answered_not_refused(retriever: Retriever) -> None:
    for text in ("?!", "\ud800", "\x00", "the"):
        assert len(retriever.retrieve(Query(text), 3)) <= 3
