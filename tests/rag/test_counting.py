"""A budget is counted by the tokenizer of what answers, as that writes its prompt."""

from __future__ import annotations

import pytest

from indexes.home import Home
from rag.assemble import Engine
from rag.config import settings_from
from rag.encoders import SentenceEncoder
from rag.entry import Entries
from rag.errors import ModelNotAvailable
from rag.generation.counting import Form, LocalCounter
from rag.generation.prompt import messages, written
from rag.values import Chunk, Context, Query
from tests.tiny_models import FAMILIES, loaded, saved

QUESTION = Query("How many minutes does the crossing to Vendel take?")
SELECTS = ("budget", "mmr", "search")


def _engine(home: Home, encoder: SentenceEncoder, model: str) -> Engine:
    raw = {
        "home": str(home.root),
        "encoder": {"device": "cpu"},
        "model": {"name": model, "device": "cpu"},
        "remote": {"base_url": "http://127.0.0.1:9/v1", "model": "m"},
    }
    engine = Engine(settings_from(raw))
    engine._encoder = encoder
    return engine


def _chosen(engine: Engine, wanted: dict[str, object]) -> Context:
    pipeline = engine.pipeline("small", "ask", wanted)
    return pipeline.select(QUESTION, pipeline.retriever.retrieve(QUESTION, 10))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("select", SELECTS)
def test_the_prompt_without_its_question_is_what_was_counted(
    small_home: Home, encoder: SentenceEncoder, select: str, family: str
) -> None:
    engine = _engine(small_home, encoder, str(saved(family)))
    context = _chosen(engine, {"select": select, "budget": 700, "generate": "local"})
    model = loaded(family)
    prompt = written(model.tokenizer, model.family, QUESTION, context, 10_000).prompt
    assert context.hits
    assert len(prompt.ids) - len(model.tokenizer.encode(f" {QUESTION.text}")) == context.tokens <= 700


@pytest.mark.parametrize("select", SELECTS)
def test_where_no_model_is_asked_only_the_sources_count(
    small_home: Home, encoder: SentenceEncoder, select: str
) -> None:
    context = _chosen(_engine(small_home, encoder, ""), {"select": select, "budget": 200})
    entries = Entries(encoder).sources(range(1, len(context.hits) + 1), context.chunks)
    assert 0 < context.tokens == sum(entries) <= 200


def test_the_words_of_a_remote_prompt_count(small_home: Home, encoder: SentenceEncoder) -> None:
    engine = _engine(small_home, encoder, "")
    context = _chosen(engine, {"select": "budget", "budget": 200, "generate": "remote"})
    whole = sum(encoder([message["content"] for message in messages(QUESTION, context)]))
    assert context.tokens == whole - encoder([QUESTION.text])[0] <= 200
    assert not _chosen(engine, {"select": "budget", "budget": 60, "generate": "remote"}).hits


def test_a_model_that_is_missing_leaves_counting_to_the_encoder(small_home: Home, encoder: SentenceEncoder) -> None:
    def missing() -> Form:
        raise ModelNotAvailable("gone")

    chunk, entries = Chunk("d#0", "d", "one two", 0, 7), Entries(encoder, "three words here")
    counter = LocalCounter(missing, entries)
    assert (counter.frame(), counter.sources([1], [chunk])) == (3, entries.sources([1], [chunk]))
    engine = _engine(small_home, encoder, "/no/such/model")
    assert _chosen(engine, {"generate": "local", "budget": 200}).tokens > 0
    answer = engine.pipeline("small", "ask", {"generate": "local", "budget": 200}).answer(QUESTION)
    assert answer.generator == "extractive"
    assert answer.report.degraded.endswith("the language model model cannot be loaded")
