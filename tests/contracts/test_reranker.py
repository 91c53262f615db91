"""The contract of Reranker: a new order of the same chunks.

The cross-encoder here has random weights; the rerankers of language models read with the lexical stand-in.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest

from indexes.collection import Collection
from rag.encoders import SentenceEncoder
from rag.errors import ModelNotAvailable
from rag.protocols import Reranker
from rag.reranking.attention import AttentionReranker
from rag.reranking.cross_encoder import CrossEncoderModel, CrossEncoderReranker
from rag.reranking.listwise import ListwiseReranker
from rag.reranking.pairwise import PairwiseReranker
from rag.reranking.pointwise import PointwiseReranker
from rag.reranking.sentences import SentenceReranker
from rag.reranking.setwise import SetwiseReranker
from rag.retrieval.bm25 import Bm25
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Limits
from rag.values import Hit, Query, Ranking, ScoreKind, StageReport
from tests.contracts.conftest import save_random_cross_encoder

QUESTION = Query("How many minutes does the crossing to Vendel take?")
DEPTH = 6


READER = LexicalReader()
OF_LANGUAGE_MODELS: dict[str, Reranker] = {
    "attention": AttentionReranker(READER, depth=DEPTH),
    "pairwise-heapsort": PairwiseReranker(READER, "heapsort", DEPTH, DEPTH),
    "pairwise-allpair": PairwiseReranker(READER, "allpair", depth=DEPTH),
    "pairwise-sliding": PairwiseReranker(READER, "sliding", DEPTH, DEPTH),
    "pairwise-quickselect": PairwiseReranker(READER, "quickselect", DEPTH, DEPTH),
    "setwise-insertion": SetwiseReranker(READER, "insertion", DEPTH, DEPTH),
    "setwise-heapsort": SetwiseReranker(READER, "heapsort", DEPTH, DEPTH),
    "setwise-tourrank": SetwiseReranker(READER, "tourrank", DEPTH, DEPTH),
    "listwise": ListwiseReranker(READER, depth=DEPTH),
    "yes-no": PointwiseReranker(READER, "yes-no", DEPTH),
    "likelihood": PointwiseReranker(READER, "likelihood", DEPTH),
}


@pytest.fixture(params=["sentences", "cross-encoder", *OF_LANGUAGE_MODELS])
def reranker(
    request: pytest.FixtureRequest, encoder: SentenceEncoder, random_cross_encoder: CrossEncoderModel
) -> Reranker:
    if request.param == "sentences":
        return SentenceReranker(encoder, DEPTH)
    if request.param == "cross-encoder":
        return CrossEncoderReranker(random_cross_encoder, DEPTH)
    return OF_LANGUAGE_MODELS[request.param]


@pytest.fixture
def ranking(small: Collection) -> Ranking:
    """BM25's ranking with its first six turned round: there is something to put right."""
    found = Bm25(small).retrieve(QUESTION, 20)
    head = [Hit(hit.chunk, found[0].score + place) for place, hit in enumerate(found[:DEPTH])]
    return Ranking((*head, *found[DEPTH:]), found.kind, found.report)


def ids(ranking: Ranking) -> list[str]:
    return [hit.chunk.id for hit in ranking]


def test_is_a_reranker(reranker: Reranker) -> None:
    assert isinstance(reranker, Reranker)


def test_never_adds_and_never_drops_a_chunk(reranker: Reranker, ranking: Ranking) -> None:
    assert sorted(ids(reranker.rerank(QUESTION, ranking))) == sorted(ids(ranking))


def test_those_below_the_depth_stay_behind_in_their_order(reranker: Reranker, ranking: Ranking) -> None:
    again = reranker.rerank(QUESTION, ranking)
    assert ids(again)[DEPTH:] == ids(ranking)[DEPTH:]
    assert ids(again)[:DEPTH] != ids(ranking)[:DEPTH]


def test_the_order_it_was_given_does_not_matter(reranker: Reranker, ranking: Ranking) -> None:
    """Six hits are all read: reversed input, same output."""
    head = Ranking(ranking.hits[:DEPTH], ranking.kind, ranking.report)
    turned = Ranking(tuple(reversed(ranking.hits[:DEPTH])), ranking.kind, ranking.report)
    assert ids(reranker.rerank(QUESTION, head)) == ids(reranker.rerank(QUESTION, turned))


def test_twice_gives_the_same(reranker: Reranker, ranking: Ranking) -> None:
    first, second = reranker.rerank(QUESTION, ranking), reranker.rerank(QUESTION, ranking)
    assert ids(first) == ids(second)
    assert [hit.score for hit in first] == pytest.approx([hit.score for hit in second], abs=1e-6)


def test_an_empty_ranking_stays_empty(reranker: Reranker) -> None:
    empty = Ranking((), ScoreKind.BM25, StageReport("bm25"))
    again = reranker.rerank(QUESTION, empty)
    assert len(again) == 0
    assert (again.report.n_in, again.report.n_out, again.report.tokens) == (0, 0, 0)


def test_the_input_is_kept_as_provenance_and_not_changed(reranker: Reranker, ranking: Ranking) -> None:
    before = ranking.hits
    again = reranker.rerank(QUESTION, ranking)
    assert again.inputs == (ranking,)
    assert ranking.hits == before


def test_reports_what_it_read(reranker: Reranker, ranking: Ranking) -> None:
    report = reranker.rerank(QUESTION, ranking).report
    assert (report.stage, report.n_in, report.n_out) == ("rerank", 20, 20)
    assert report.tokens > 20 * DEPTH
    assert report.seconds > 0


def test_one_sentence_that_answers_lifts_its_chunk(encoder: SentenceEncoder, small: Collection) -> None:
    question = Query("Which animals are banned while chicks are small?")
    ranking = Bm25(small).retrieve(Query("island the tower lamp cats chicks festival"), 30)
    best = SentenceReranker(encoder, 30, weight=0.0).rerank(question, ranking)[0]
    assert "Cats are banned" in best.chunk.text


def test_a_cross_encoder_of_three_outputs_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = save_random_cross_encoder(tmp_path_factory.mktemp("three"), labels=3)
    with pytest.raises(ModelNotAvailable, match="has 3 outputs; a reranker has one"):
        CrossEncoderModel(str(directory), device="cpu").logits([("a", "b")])


def test_a_cross_encoder_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelNotAvailable, match="'/no/such/model' cannot be loaded"):
        CrossEncoderModel("/no/such/model").logits([("a", "b")])


PAIRS = [(f"question {n % 3}", "the lighthouse " * (1 + n % 7) + f"number {n}") for n in range(40)]


def test_pairs_of_many_requests_have_the_logits_the_model_itself_gives_each_alone(
    random_cross_encoder: CrossEncoderModel,
) -> None:
    import torch

    bare = random_cross_encoder._model()
    options = {"activation_fn": torch.nn.Identity(), "show_progress_bar": False}
    alone = [float(bare.predict([pair], **options)[0]) for pair in PAIRS]  # type: ignore[call-overload]
    tokens = [len(ids) for ids in deepcopy(bare.tokenizer)(PAIRS, truncation=True)["input_ids"]]
    requests = [range(start, 40, 16) for start in range(16)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda places: random_cross_encoder.logits([PAIRS[n] for n in places]), requests))
    for places, (logits, read, stopped) in zip(requests, found, strict=True):
        assert logits == pytest.approx([alone[n] for n in places], abs=1e-4)
        assert (read, stopped) == (sum(tokens[n] for n in places), "")


def test_a_cross_encoder_out_of_time_keeps_the_old_order_and_says_so(
    random_cross_encoder: CrossEncoderModel, ranking: Ranking, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    compute = random_cross_encoder._passes._compute
    monkeypatch.setattr(random_cross_encoder._passes, "_compute", lambda pairs: compute(pairs) if go.wait(20) else [])
    again = CrossEncoderReranker(random_cross_encoder, DEPTH, Limits(deadline_ms=1)).rerank(QUESTION, ranking)
    go.set()
    assert again.report.degraded == "deadline_ms = 1 is used up: 6 of 6 passages were not scored"
    assert ids(again) == ids(ranking)
