"""The contract of Selector: never above the budget, never an empty chunk, counted as it will be written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes.collection import Collection
from rag.encoders import SentenceEncoder
from rag.entry import Entries, entry
from rag.protocols import Selector
from rag.retrieval.bm25 import Bm25
from rag.selection.budget import BudgetFill
from rag.selection.mmr import MaximalMarginalRelevance
from rag.selection.ordering import Order
from rag.selection.search import SetSelector
from rag.selection_table import SEARCHES
from rag.values import Chunk, Context, Hit, Query, Ranking, ScoreKind, StageReport
from tests.fakes import HashingEncoder

QUESTION = Query("How often does the ferry leave?")
HASHING = HashingEncoder()
ORDERS: tuple[Order, ...] = ("score", "best-last", "document")
FILLING = ("budget", "mmr")
"""Selectors that take all that fits; the others leave out what is worth less than its tokens."""
SEARCHING = ("search", *(name for name in SEARCHES if name != "search"))
KINDS = (*FILLING, *SEARCHING, "search without encoder")


def selector(
    kind: str, order: Order = "score", model: SentenceEncoder | HashingEncoder = HASHING, around: str = ""
) -> Selector:
    count = Entries(model, around)
    if kind in FILLING:
        return BudgetFill(count, order) if kind == "budget" else MaximalMarginalRelevance(model, count, 0.7, order)
    if kind in SEARCHES:
        return SetSelector(count=count, encoder=model, order=order, searcher=SEARCHES[kind], name=kind)
    return SetSelector(count=count, order=order)


@pytest.fixture(
    params=[(kind, order) for kind in KINDS for order in ORDERS if kind in (*FILLING, "search") or order == "score"],
    ids="-".join,
)
def chosen(request: pytest.FixtureRequest) -> Selector:
    return selector(*request.param)


@pytest.fixture
def ranking(small: Collection) -> Ranking:
    return Bm25(small).retrieve(Query("ferry crossing minutes council law vellum tides fog"), 25)


def ranked(*texts: str, title: str = "") -> Ranking:
    """Chunks ``d0#0``, ``d1#0`` ... of those texts, best first."""
    hits = [
        Hit(Chunk(f"d{i}#0", f"d{i}", text, 0, len(text), title), 1.0 - i / len(texts)) for i, text in enumerate(texts)
    ]
    return Ranking(tuple(hits), ScoreKind.COSINE, StageReport("test"))


def recount(context: Context, count: Callable[[list[str]], list[int]]) -> int:
    return sum(count([entry(number, chunk) for number, chunk in enumerate(context.chunks, start=1)]))


def test_is_a_selector(chosen: Selector) -> None:
    assert isinstance(chosen, Selector)


@pytest.mark.parametrize("budget", [0, 1, 40, 200, 100_000])
def test_tokens_are_a_recount_of_the_entries_and_within_the_budget(
    chosen: Selector, ranking: Ranking, budget: int
) -> None:
    context = chosen.select(QUESTION, ranking, budget)
    assert recount(context, HASHING) == context.tokens <= context.budget == budget
    assert context.ranking is ranking
    assert bool(context.hits) == (budget >= 40)
    assert (len(context.hits) == len(ranking)) == (budget == 100_000 and not isinstance(chosen, SetSelector))


@pytest.mark.parametrize("kind", FILLING)
def test_the_packaged_encoder_counts_and_compares_as_well(
    kind: str, ranking: Ranking, encoder: SentenceEncoder
) -> None:
    context = selector(kind, model=encoder).select(QUESTION, ranking, 200)
    assert 150 < recount(context, encoder) == context.tokens <= 200


def test_reports_what_entered_and_what_left(chosen: Selector, ranking: Ranking) -> None:
    context = chosen.select(QUESTION, ranking, 300)
    assert (context.report.stage, context.report.n_in, context.report.n_out) == ("select", 25, len(context.hits))
    assert context.report.seconds > 0


def test_an_empty_ranking_gives_an_empty_context(chosen: Selector) -> None:
    context = chosen.select(QUESTION, Ranking((), ScoreKind.BM25, StageReport("bm25")), 100)
    assert (context.hits, context.tokens) == ((), 0)


@pytest.mark.parametrize("kind", KINDS)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["ferry", "boat", "fog", "12", "x"]), max_size=12).map(" ".join), max_size=9
    ),
    budget=st.integers(0, 60),
    order=st.sampled_from(ORDERS),
    frame=st.sampled_from([0, 1, 7]),
)
@settings(max_examples=60, deadline=None)
def test_the_budget_is_never_exceeded_and_no_chunk_comes_twice(
    kind: str, texts: list[str], budget: int, order: Order, frame: int
) -> None:
    """The words around the sources count where there are sources."""
    context = selector(kind, order, around="word " * frame).select(QUESTION, ranked(*texts), budget)
    assert recount(context, HASHING) + frame * bool(context.hits) == context.tokens <= context.budget == budget
    assert len(set(context.chunks)) == len(context.chunks)
    assert all(chunk.text.strip() for chunk in context.chunks)


@pytest.mark.parametrize("kind", FILLING)
def test_what_still_fits_is_taken(kind: str) -> None:
    """Entries count their words and their number: 1 + 6, 1 + 2, 1 + 3 tokens; 3 + 4 = 7 fit, 7 + 3 do not."""
    ranking = ranked("fog fog fog fog fog fog", "ferry ferry", "boat boat boat")
    one = selector(kind).select(QUESTION, ranking, 6)
    assert "d0#0" not in [chunk.id for chunk in one.chunks]
    both = selector(kind).select(QUESTION, ranked("ferry ferry", "boat boat boat"), 7)
    assert len(both.hits) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_one_chunk_larger_than_the_budget_is_passed_over(kind: str) -> None:
    context = selector(kind).select(QUESTION, ranked("fog " * 50), 50)
    assert (context.hits, context.tokens) == ((), 0)


@pytest.mark.parametrize("kind", FILLING)
def test_equal_chunks_are_taken_by_rank(kind: str) -> None:
    context = selector(kind).select(QUESTION, ranked("ferry", "ferry", "ferry"), 4)
    assert [chunk.id for chunk in context.chunks] == ["d0#0", "d1#0"]


@pytest.mark.parametrize("kind", [*SEARCHING, "search without encoder"])
def test_of_equal_chunks_a_search_takes_the_best_ranked_alone(kind: str) -> None:
    context = selector(kind).select(QUESTION, ranked("ferry", "ferry", "ferry"), 100)
    assert [chunk.id for chunk in context.chunks] == ["d0#0"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("title", ["", " \n"])
def test_an_empty_chunk_is_never_selected_even_where_it_costs_nothing(kind: str, title: str) -> None:
    context = selector(kind).select(QUESTION, ranked("", " \n\t", "ferry", title=title), 100)
    assert [chunk.id for chunk in context.chunks] == ["d2#0"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_with_a_title_alone_can_be_selected(kind: str) -> None:
    assert len(selector(kind).select(QUESTION, ranked("", title="Shipwrecks"), 10).hits) == 1


def test_a_number_of_two_tokens_is_paid_for(encoder: SentenceEncoder) -> None:
    """To the encoder's tokenizer [342] is four tokens and [500] three: the last number is not the dearest."""
    assert encoder(["[342]", "[500]"]) == [4, 3]
    exact = 341 * 4 + 158 * 4 + 1  # one token "fog" and three of the number; [342] has one more
    texts = ["fog"] * 500
    for budget in range(exact, exact + 8):
        context = BudgetFill(Entries(encoder)).select(QUESTION, ranked(*texts), budget)
        assert recount(context, encoder) == context.tokens <= budget


@pytest.mark.parametrize("kind", KINDS)
def test_the_frame_leaves_the_room_it_leaves(kind: str) -> None:
    """A frame of 7 tokens and a budget 7 larger: the same chunks."""
    texts = ("tide tables", "the tide at noon is high", "fog", "tides of the harbour, tables of tides", "a b c d e f")
    bare = selector(kind).select(QUESTION, ranked(*texts), 16)
    framed = selector(kind, around="one two three four five six seven").select(QUESTION, ranked(*texts), 23)
    assert framed.chunks == bare.chunks
    assert framed.tokens - bare.tokens == 7 * bool(bare.hits)
    assert selector(kind, around="word " * 30).select(QUESTION, ranked(*texts), 29).hits == ()


def test_orders_place_the_same_chunks() -> None:
    """Two documents, the second one's chunks out of text order."""
    b = [Chunk(f"b#{i}", "b", "ferry", 10 * i, 10 * i + 5) for i in range(2)]
    a = Chunk("a#0", "a", "ferry", 0, 5)
    hits = tuple(Hit(chunk, score) for chunk, score in ((b[1], 0.9), (a, 0.5), (b[0], 0.4)))
    ranking = Ranking(hits, ScoreKind.COSINE, StageReport("test"))
    placed = {o: [c.id for c in selector("budget", o).select(QUESTION, ranking, 99).chunks] for o in ORDERS}
    assert placed == {
        "score": ["b#1", "a#0", "b#0"],
        "best-last": ["b#0", "a#0", "b#1"],
        "document": ["b#0", "b#1", "a#0"],
    }


def test_mmr_prefers_what_is_not_yet_said() -> None:
    """Budget for two of three: the copy of the first is passed over for the other, though it ranks higher."""
    ranking = ranked("ferry leaves often", "ferry leaves often", "ferry tickets")
    mmr = MaximalMarginalRelevance(HASHING, Entries(HASHING), 0.5)
    assert [chunk.id for chunk in mmr.select(QUESTION, ranking, 8).chunks] == ["d0#0", "d2#0"]
    relevance_alone = MaximalMarginalRelevance(HASHING, Entries(HASHING), 1.0)
    assert [chunk.id for chunk in relevance_alone.select(QUESTION, ranking, 8).chunks] == ["d0#0", "d1#0"]


def test_every_candidate_is_chosen_or_rejected_with_a_reason(chosen: Selector, ranking: Ranking) -> None:
    context = chosen.select(QUESTION, ranking, 200)
    choice = context.choice
    assert choice is not None
    assert {weighed.chunk_id for weighed in choice.chosen} == {chunk.id for chunk in context.chunks}
    names = [weighed.chunk_id for weighed in (*choice.chosen, *choice.rejected)]
    assert sorted(names) == sorted(hit.chunk.id for hit in ranking)
    assert all(weighed.by for weighed in (*choice.chosen, *choice.rejected))
