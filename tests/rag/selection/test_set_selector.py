"""Selection by search on texts: what it prefers, what it leaves out, and what it reports."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from rag.entry import Entries
from rag.selection.portfolio import SEARCHERS
from rag.selection.problem import Limits
from rag.selection.search import SetSelector
from rag.selection.utility import Weights
from rag.values import Chunk, Context, Hit, Query, Ranking, ScoreKind, StageReport
from tests.fakes import HashingEncoder

HASHING = HashingEncoder()
QUESTION = Query("ferry tickets winter")


def ranked(*hits: tuple[str, float]) -> Ranking:
    """Chunks ``d0#0``, ``d1#0`` ... of those texts with those relevances."""
    made = [Hit(Chunk(f"d{i}#0", f"d{i}", text, 0, len(text)), score) for i, (text, score) in enumerate(hits)]
    return Ranking(tuple(made), ScoreKind.COSINE, StageReport("test"))


def ids(context: Context) -> list[str]:
    return [chunk.doc_id for chunk in context.chunks]


FERRY = ranked(
    ("the ferry leaves every hour from the old pier", 0.9),
    ("the ferry leaves every hour from the old pier", 0.8),
    ("tickets are sold aboard in winter", 0.5),
    ("vellum is made of calf skin and lasts long", 0.1),
)


@pytest.mark.parametrize("encoder", [None, HASHING], ids=["minhash", "encoder"])
def test_takes_what_covers_more_and_leaves_copies_and_the_irrelevant_out(encoder: HashingEncoder | None) -> None:
    context = SetSelector(count=Entries(HASHING), encoder=encoder).select(QUESTION, FERRY, 1000)
    assert ids(context) == ["d0", "d2"]


def test_the_budget_decides_between_two() -> None:
    """Entries cost 1 + 9 and 1 + 6 tokens: 17 for both. In 16 fits one of them.

    idf: ferry log 2 = 0.693, tickets and winter log(1 + 3.5/1.5) = 1.204, together 3.101.
    The best that 16 tokens gather: d0 and six tenths of d1, which ranks second: 0.9 + 0.6 * 0.8/log2(3) = 1.203.
    d0: 0.15 * 0.9 * 0.693/3.101 + 0.35 * 0.9/(1.203/0.9) - 0.1 * 10/16 = 0.203
    d2: 0.15 * 0.5 * 2.408/3.101 + 0.35 * 0.5/log2(4)/(1.203/0.9) - 0.1 * 7/16 = 0.080
    """
    selector = SetSelector(count=Entries(HASHING))
    assert [ids(selector.select(QUESTION, FERRY, budget)) for budget in (17, 16, 6)] == [["d0", "d2"], ["d0"], []]
    assert "utility 0.2034" in selector.select(QUESTION, FERRY, 16).report.notes[0]


def test_only_irrelevant_chunks_leave_the_context_empty() -> None:
    ranking = ranked(("vellum is made of calf skin", 0.02), ("fog horns were sounded", 0.01))
    assert ids(SetSelector(count=Entries(HASHING)).select(QUESTION, ranking, 20)) == []


def test_the_result_is_the_best_of_all_sets_and_the_note_says_so() -> None:
    selector = SetSelector(count=Entries(HASHING))
    context = selector.select(QUESTION, FERRY, 25)
    pool = selector.pool(QUESTION, FERRY, FERRY.hits, 25)
    problem = selector.problem(pool, selector.utility(pool))
    feasible = [s for size in range(1, 5) for s in combinations(range(4), size) if problem.feasible(s)]
    best = max(feasible, key=lambda s: problem.utility([s])[0])
    assert ids(context) == [f"d{i}" for i in best]
    (note,) = context.report.notes
    value = problem.utility([best])[0]
    assert note == f"portfolio: utility {value:.4f} after {len(feasible)} evaluations, optimal"


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_every_searcher_can_be_named_and_keeps_to_its_limit(searcher: str) -> None:
    selector = SetSelector(count=Entries(HASHING), searcher=searcher, limits=Limits(evaluations=5))
    context = selector.select(QUESTION, FERRY, 25)
    (note,) = context.report.notes
    assert context.tokens <= 25
    assert int(re.findall(r"after (\d+)", note)[0]) <= 5


def test_only_the_first_chunks_enter_and_only_so_many_leave() -> None:
    texts = [(f"ferry pier number{i} word{i} winter{i}", 0.9 - i / 100) for i in range(8)]
    texts[6] = ("tickets winter ferry", 0.5)
    ranking = ranked(*texts)
    assert "d6" in ids(SetSelector(count=Entries(HASHING)).select(QUESTION, ranking, 1000))
    few = SetSelector(count=Entries(HASHING), depth=6, most=2).select(QUESTION, ranking, 1000)
    assert len(few.hits) <= 2
    assert "d6" not in ids(few)
    assert few.report.n_in == 8


def test_an_encoder_is_paid_for_in_the_report() -> None:
    """9 + 9 + 6 + 9 words are encoded."""
    assert SetSelector(count=Entries(HASHING), encoder=HASHING).select(QUESTION, FERRY, 99).report.tokens == 33
    assert SetSelector(count=Entries(HASHING)).select(QUESTION, FERRY, 99).report.tokens == 0


def test_unknown_searchers_and_empty_depths_are_refused() -> None:
    with pytest.raises(ValueError, match="no searcher 'best'; there are fill, greedy"):
        SetSelector(count=Entries(HASHING), searcher="best")
    with pytest.raises(ValueError, match="depth = 0"):
        SetSelector(count=Entries(HASHING), depth=0)


# --- two hops ---

HOPS = Ranking(
    tuple(
        Hit(Chunk(f"d{i}#0", f"d{i}", text, 0, len(text), title), score)
        for i, (title, text, score) in enumerate(
            (
                ("MV Heron", "The ferry Heron was built in Tarbet for winter crossings", 0.9),
                ("Ferries", "A ferry is a boat; a ferry may sail in winter as in summer too", 0.8),
                ("Tarbet", "A village with a yard that was founded in 1871", 0.2),
            )
        )
    ),
    ScoreKind.COSINE,
    StageReport("test"),
)
HOP_QUESTION = Query("When was the yard founded where the winter ferry MV Heron was built?")


def test_the_second_hop_is_taken_over_what_is_ranked_higher() -> None:
    """Two fit into 25 tokens: the ferry's chunk names Tarbet, which the question does not."""
    assert ids(SetSelector(count=Entries(HASHING)).select(HOP_QUESTION, HOPS, 25)) == ["d0", "d2"]
    off = Weights(bridge=0.0)
    choice = SetSelector(count=Entries(HASHING), weights=off).select(HOP_QUESTION, HOPS, 25).choice
    assert choice is not None
    assert "bridge" not in choice.chosen[0].terms


def test_sequences_are_searched_and_stand_in_the_pipelines_order_where_nothing_else_speaks() -> None:
    context = SetSelector(count=Entries(HASHING), ordered=True, order="best-last").select(HOP_QUESTION, HOPS, 25)
    assert ids(context) == ["d2", "d0"]
    free = SetSelector(count=Entries(HASHING), ordered=True, weights=Weights(order=0.0)).select(HOP_QUESTION, HOPS, 25)
    assert sorted(ids(free)) == ["d0", "d2"]


def test_equal_texts_all_negative_and_no_scores_have_defined_results() -> None:
    """Relevance of nothing that matters costs more than it brings; a NaN score never becomes a ranking."""
    worthless = ranked(("vellum of calf skin", 0.0), ("fog horns", 0.0))
    context = SetSelector(count=Entries(HASHING)).select(QUESTION, worthless, 50)
    assert context.hits == ()
    assert context.choice is not None
    assert [(w.by, w.gain < 0) for w in context.choice.rejected] == [("tokens", True)] * 2
    with pytest.raises(ValueError, match="not a number"):
        ranked(("fog", float("nan")))


@pytest.mark.parametrize("score", [0.4, 1.4, 9.0, 30.0])
def test_the_one_chunk_that_bm25_finds_in_a_small_collection_is_taken(score: float) -> None:
    """Scores are low there: no term is rare among few documents."""
    hit = Hit(Chunk("heart#0", "heart", "The heart pumps blood.", 0, 22), score)
    ranking = Ranking((hit,), ScoreKind.BM25, StageReport("bm25"))
    assert ids(SetSelector(count=Entries(HASHING)).select(Query("What pumps blood?"), ranking, 1024)) == ["heart"]
