"""The support threshold on the small collection: what is in it is answered, what is not is not."""

from __future__ import annotations

import pytest

from indexes.collection import Collection
from rag.encoders import SentenceEncoder
from rag.entry import Entries
from rag.generation.extractive import Extractive
from rag.generation.prompt import NOT_FOUND
from rag.retrieval.dense import Dense
from rag.selection.budget import BudgetFill
from rag.values import Answer, Query

ANSWERABLE = (
    ("How tall is the lighthouse of Vendel?", f"{20 + 6} metres"),
    ("How long does the crossing to Quillan take?", f"{30 + 2 * 7} minutes"),
    ("How many puffins nest on Maddoch?", f"{1000 + 50 * 4} puffins"),
    ("How long does cheese from Torvay ripen?", f"{3 + 0} months"),
    ("Who prints the tide tables?", "harbour office"),
)
UNANSWERABLE = (
    "Who won the chess world championship?",
    "How does photosynthesis convert light into sugar?",
    "What is the boiling point of mercury?",
    "Which enzyme unwinds DNA during replication?",
    "How do I parse JSON in Python?",
)


def ask(small: Collection, encoder: SentenceEncoder, text: str) -> Answer:
    query = Query(text)
    context = BudgetFill(Entries(encoder)).select(query, Dense(small, encoder).retrieve(query, 10), 512)
    return Extractive(encoder).generate(query, context)


@pytest.mark.parametrize(("question", "fact"), ANSWERABLE)
def test_what_a_source_says_is_found_and_quoted(
    small: Collection, encoder: SentenceEncoder, question: str, fact: str
) -> None:
    answer = ask(small, encoder, question)
    assert answer.found
    assert fact in answer.text


@pytest.mark.parametrize("question", UNANSWERABLE)
def test_what_no_source_says_is_not_found(small: Collection, encoder: SentenceEncoder, question: str) -> None:
    answer = ask(small, encoder, question)
    assert (answer.found, answer.text, answer.citations) == (False, NOT_FOUND, ())


def test_one_text_is_quoted_once_though_two_sources_hold_it(small: Collection, encoder: SentenceEncoder) -> None:
    answer = ask(small, encoder, "Where are tide tables printed and sold?")
    assert answer.text.count("Tide tables are printed") == 1
    assert {"twin-a#0", "twin-b#0"} <= {chunk.id for chunk in answer.context.chunks}


def test_at_most_three_sentences_and_all_near_the_best(small: Collection, encoder: SentenceEncoder) -> None:
    query = Query("Where do puffins nest?")
    context = BudgetFill(Entries(encoder)).select(query, Dense(small, encoder).retrieve(query, 10), 512)
    assert len(Extractive(encoder).generate(query, context).citations) == 3
    assert len(Extractive(encoder, spread=0.0).generate(query, context).citations) == 1
