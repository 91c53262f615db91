"""The contract of Generator: pieces, then one Answer whose citations can be looked up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from indexes.collection import Collection
from rag.encoders import SentenceEncoder
from rag.entry import Entries
from rag.generation.extractive import Extractive
from rag.generation.local import Local
from rag.generation.prompt import NOT_FOUND
from rag.generation.remote import Remote
from rag.protocols import Generator
from rag.retrieval.dense import Dense
from rag.runtime.batch_decode import BatchDecode
from rag.selection.budget import BudgetFill
from rag.values import Answer, Context, Query
from tests.contracts.openai_engine import OpenAiEngine, completion
from tests.speaking_models import speaking

QUESTION = Query("How many minutes does the crossing to Vendel take?")
UNRELATED = Query("Who wrote the opera about quarks and gluons?")


@dataclass
class Subject:
    """A generator, its engine where it has one, and for a model that says one thing only another that finds nothing."""

    generator: Generator
    engine: OpenAiEngine | None = None
    unable: Generator | None = None

    def answer(self, query: Query, context: Context) -> tuple[list[str], Answer]:
        *pieces, last = self.generator.stream(query, context)
        assert isinstance(last, Answer)
        assert not any(isinstance(piece, Answer) for piece in pieces)
        return [str(piece) for piece in pieces], last


@pytest.fixture(params=["extractive", "remote", "local"])
def subject(request: pytest.FixtureRequest, encoder: SentenceEncoder, engine: OpenAiEngine) -> Subject:
    if request.param == "extractive":
        return Subject(Extractive(encoder))
    if request.param == "local":
        return Subject(local("The crossing takes 42 minutes [1]."), unable=local(f"I looked: {NOT_FOUND} [1]"))
    return Subject(Remote(engine.config), engine)


def local(says: str) -> Local:
    model = speaking(says)
    return Local(model, BatchDecode(model))


@pytest.fixture
def context(small: Collection, encoder: SentenceEncoder) -> Context:
    return BudgetFill(Entries(encoder)).select(QUESTION, Dense(small, encoder).retrieve(QUESTION, 8), 400)


def test_is_a_generator(subject: Subject) -> None:
    assert isinstance(subject.generator, Generator)


def test_pieces_join_to_the_text_and_one_answer_ends_the_stream(subject: Subject, context: Context) -> None:
    pieces, answer = subject.answer(QUESTION, context)
    assert len(pieces) > 1
    assert "".join(pieces) == answer.text
    assert answer.found
    assert answer.context is context
    assert subject.generator.generate(QUESTION, context).text == answer.text


def test_citations_name_the_chunks_of_the_context(subject: Subject, context: Context) -> None:
    _, answer = subject.answer(QUESTION, context)
    assert answer.citations
    for citation in answer.citations:
        chunk = context.hits[citation.number - 1].chunk
        assert (citation.chunk_id, citation.doc_id) == (chunk.id, chunk.doc_id)
        assert f"[{citation.number}]" in answer.text


def test_not_found_is_said_plainly_and_cites_nothing(subject: Subject, context: Context) -> None:
    if subject.engine:
        subject.engine.lines = completion("I looked. ", NOT_FOUND, " [1]")
    subject.generator = subject.unable or subject.generator
    _, answer = subject.answer(UNRELATED, context)
    assert (answer.found, answer.text, answer.citations) == (False, NOT_FOUND, ())


def test_without_sources_nothing_is_found_whatever_an_engine_would_say(subject: Subject, context: Context) -> None:
    pieces, answer = subject.answer(QUESTION, replace(context, hits=(), tokens=0))
    assert (answer.found, answer.text, answer.citations) == (False, NOT_FOUND, ())
    assert "".join(pieces) == NOT_FOUND
    assert subject.engine is None or not subject.engine.requests


def test_reports_its_time_and_its_tokens(subject: Subject, context: Context) -> None:
    _, answer = subject.answer(QUESTION, context)
    assert (answer.report.stage, answer.report.n_in) == ("generate", len(context.hits))
    assert answer.report.seconds > 0
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0


def test_quoted_offsets_give_the_document_s_own_text(
    small: Collection, encoder: SentenceEncoder, context: Context
) -> None:
    *_, answer = Extractive(encoder, support=0.2, spread=1.0).stream(QUESTION, context)
    assert isinstance(answer, Answer)
    assert len(answer.citations) == 3
    for citation in answer.citations:
        document = small.document(citation.doc_id)
        assert document is not None
        quoted = " ".join(document.text[citation.start : citation.end].split())
        assert f"{quoted} [{citation.number}]" in answer.text


def test_offsets_hold_where_the_source_is_full_of_white_space(small: Collection, encoder: SentenceEncoder) -> None:
    """ "spaced" has line breaks, tabs and blanks around each of its sentences."""
    query = Query("How often does the horn sound in fog?")
    context = BudgetFill(Entries(encoder)).select(query, Dense(small, encoder).retrieve(query, 1), 100)
    answer = Extractive(encoder).generate(query, context)
    (citation,) = answer.citations
    document = small.document("spaced")
    assert document is not None
    assert document.text[citation.start : citation.end] == "The horn\n sounds  twice a minute in fog."
    assert answer.text == "The horn sounds twice a minute in fog. [1]"


def test_the_extractive_answer_is_the_sentence_that_answers(encoder: SentenceEncoder, context: Context) -> None:
    """Vendel is island 6: 30 + 2 * 6 minutes."""
    answer = Extractive(encoder, most=1).generate(QUESTION, context)
    assert answer.text.startswith(f"The crossing takes {30 + 2 * 6} minutes in calm weather.")


def test_the_remote_engine_is_asked_for_a_stream_with_the_numbered_sources(
    engine: OpenAiEngine, context: Context
) -> None:
    answer = Remote(engine.config).generate(QUESTION, context)
    (request,) = engine.requests
    assert (request["path"], request["model"], request["stream"]) == ("/v1/chat/completions", "echo", True)
    assert f"[1] {context.chunks[0].title}\n{context.chunks[0].text}" in request["messages"][1]["content"]
    assert request["messages"][1]["content"].endswith(f"Question: {QUESTION.text}")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (12, 3)
    assert engine.keys == [None]
