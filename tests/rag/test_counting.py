"""A budget is counted by the tokenizer of what answers."""

from __future__ import annotations

import pytest

from indexes.home import Home
from rag.assemble import Engine
from rag.config import settings_from
from rag.encoders import SentenceEncoder
from rag.entry import entry
from rag.errors import ModelNotAvailable
from rag.runtime.counting import ModelCounter
from rag.runtime.tokens import PromptTokenizer
from rag.values import Query
from tests.tiny_models import loaded, saved

QUESTION = Query("How many minutes does the crossing to Vendel take?")


def _engine(home: Home, encoder: SentenceEncoder, model: str) -> Engine:
    raw = {"home": str(home.root), "encoder": {"device": "cpu"}, "model": {"name": model, "device": "cpu"}}
    engine = Engine(settings_from(raw))
    engine._encoder = encoder
    return engine


@pytest.mark.parametrize("select", ["budget", "mmr", "search"])
def test_the_model_that_answers_counts(small_home: Home, encoder: SentenceEncoder, select: str) -> None:
    engine = _engine(small_home, encoder, str(saved("llama")))
    wanted = {"select": select, "budget": 400}
    by_model = engine.pipeline("small", "ask", wanted | {"generate": "local"})
    by_encoder = engine.pipeline("small", "ask", wanted)
    for pipeline, count in ((by_model, _count), (by_encoder, encoder)):
        assert pipeline.selector is not None
        context = pipeline.selector.select(QUESTION, by_encoder.retriever.retrieve(QUESTION, 10), 400)
        entries = [entry(number, chunk) for number, chunk in enumerate(context.chunks, start=1)]
        assert 0 < context.tokens == sum(count(entries)) <= 400
    assert _count(["The crossing takes forty minutes."]) != encoder(["The crossing takes forty minutes."])


def _count(texts: list[str]) -> list[int]:
    return [len(loaded("llama").tokenizer.encode(text)) for text in texts]


def test_a_model_that_is_missing_leaves_counting_to_the_encoder(small_home: Home, encoder: SentenceEncoder) -> None:
    def missing() -> PromptTokenizer:
        raise ModelNotAvailable("gone")

    assert ModelCounter("gone", missing, encoder)(["one two"]) == encoder(["one two"])
    engine = _engine(small_home, encoder, "/no/such/model")
    pipeline = engine.pipeline("small", "ask", {"generate": "local", "budget": 200})
    assert pipeline.selector is not None
    assert pipeline.selector.select(QUESTION, pipeline.retriever.retrieve(QUESTION, 10), 200).tokens > 0
    answer = pipeline.answer(QUESTION)
    assert answer.generator == "extractive"
    assert answer.report.degraded.endswith("the language model model cannot be loaded")
