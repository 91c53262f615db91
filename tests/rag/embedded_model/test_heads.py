"""Topics and the attention they pay, beside transformers' own attention over each query's whole prompt."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from rag.embedded_model.architecture import new_model
from rag.embedded_model.heads_loss import EACH_HEAD, VECTORS, divergence, heads_loss, right
from rag.embedded_model.heads_loss import TINY as LEAST
from rag.embedded_model.lower import Paid, paid
from rag.embedded_model.pool import by_place, pool
from rag.embedded_model.schedule import topics_of
from rag.embedded_model.teacher import OUT, Teacher
from rag.embedded_model.topic_batch import NOBODY, SHARED, TopicBatch, topic_batch
from rag.embedded_model.topics import PASSAGES, Topic, TopicSource
from rag.reranking.icr import CALIBRATION, LATE, IcrTemplate, document_ids, icr_prompt
from tests.rag.embedded_model.worlds import TINY, Letters, corpus, source, writer
from tests.tiny_models import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> TopicSource:
    return TopicSource(source(), Teacher(source(), tmp_path_factory.mktemp("teacher"), Letters()), 0)


@pytest.fixture(scope="module")
def model() -> Any:
    made = new_model(TINY, 3)
    made.set_attn_implementation("eager")
    return made


def _drawn(topics: TopicSource, seed: int, *, empty: bool) -> Topic:
    random = Random(seed)
    return next(topic for topic in iter(lambda: topics.draw(random), None) if topic.empty == empty)


def _prompt(topic: Topic, query: str, longest: int, *, joint: bool) -> tuple[list[int], list[tuple[int, int]], int]:
    """The product's own prompt, the passages' places in it, and where what the query says begins."""
    strings = writer().family.attention
    template = IcrTemplate(strings.prefix, strings.separator, strings.suffix, LATE["IE"])
    tokenizer = writer().tokenizer
    places = range(1, len(topic.texts) + 1) if joint else [None] * len(topic.texts)
    documents = [document_ids(tokenizer, text, place, longest) for text, place in zip(topic.texts, places, strict=True)]
    prompt = icr_prompt(tokenizer, template, query, documents, range(len(documents)))
    other = icr_prompt(tokenizer, template, ".", [], []).query.ids
    empty = icr_prompt(tokenizer, template, CALIBRATION, [], []).query.ids
    shared = next(i for i, (a, b) in enumerate(zip(other, empty, strict=False)) if a != b)
    return [*prompt.prefix.ids, *prompt.query.ids], list(prompt.spans), len(prompt.prefix.ids) + shared


def _sees(length: int, spans: list[tuple[int, int]], behind: int, *, joint: bool) -> torch.Tensor:
    """(length, length): causal; apart, a passage and its separator see what stands before the first and themselves."""
    sees = torch.ones(length, length, dtype=torch.bool).tril()
    if not joint:
        starts = [start for start, _ in spans]
        for start, end in zip(starts, [*starts[1:], behind], strict=True):
            sees[start:end, starts[0] : start] = False
    return sees


@pytest.mark.parametrize("joint", [False, True])
def test_masses_are_those_of_eager_attention_over_each_querys_prompt(
    topics: TopicSource, model: Any, joint: bool
) -> None:
    pair = [_drawn(topics, 1, empty=True), _drawn(topics, 2, empty=False)]
    batch = topic_batch(pair, writer(), 24, joint=joint)
    with torch.no_grad():
        found = paid(model, TINY, batch)
    prefix = len(writer().lead())
    compared = 0
    for at, topic in enumerate(pair):
        for number, query in enumerate([*topic.queries, *([CALIBRATION] if topic.empty else [])]):
            ids, spans, begin = _prompt(topic, query, 24, joint=joint)
            assert spans[0][0] == prefix
            behind = spans[-1][1] + len(writer().separator())
            sees = _sees(len(ids), spans, behind, joint=joint)
            added = torch.zeros(1, 1, *sees.shape).masked_fill(~sees, float("-inf"))
            with torch.no_grad():
                layers = model(torch.tensor([ids]), attention_mask=added, output_attentions=True).attentions
            for head, (layer, query_head) in enumerate(TINY.heads):
                rows = layers[layer][0, query_head, begin:].sum(dim=0)
                expected = torch.stack([rows[a:b].sum() for a, b in spans])
                assert torch.allclose(found.masses[at, head, number], expected, atol=1e-5), (at, number, head)
                compared += 1
        assert not batch.present[at, number + 1 :].any()
    assert compared > 20


def test_states_are_means_over_a_passages_and_a_querys_tokens(topics: TopicSource, model: Any) -> None:
    topic = _drawn(topics, 3, empty=False)
    batch = topic_batch([topic], writer(), 24, joint=True)
    with torch.no_grad():
        found = paid(model, TINY, batch)
        ids, spans, begin = _prompt(topic, topic.queries[0], 24, joint=True)
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[max(TINY.by_layer)][0]
    assert torch.allclose(found.queries[0, 0], states[begin:].mean(dim=0), atol=1e-5)
    for at, (start, end) in enumerate(spans):
        assert torch.allclose(found.passages[0, at], states[start:end].mean(dim=0), atol=1e-5)


def test_a_query_does_not_see_another_nor_a_passage_another_alone(topics: TopicSource, model: Any) -> None:
    topic = _drawn(topics, 4, empty=False)
    batch = topic_batch([topic], writer(), 24, joint=False)
    ids, query_ids = batch.ids.clone(), batch.query_ids.clone()
    ids[0, 1, len(writer().lead()) :] = 9
    query_ids[0, (batch.asked == 1)[0]] = 9
    with torch.no_grad():
        before, asked = paid(model, TINY, batch), paid(model, TINY, _with(batch, query_ids=query_ids))
        shown = paid(model, TINY, _with(batch, ids=ids))
    assert torch.equal(before.masses[:, :, 0], asked.masses[:, :, 0])
    assert not torch.equal(before.masses[:, :, 1], asked.masses[:, :, 1])
    assert torch.equal(before.passages[:, 0], shown.passages[:, 0])
    assert not torch.equal(before.passages[:, 1], shown.passages[:, 1])


def _with(batch: TopicBatch, **changed: torch.Tensor) -> TopicBatch:
    return TopicBatch(**{name: changed.get(name, getattr(batch, name)) for name in TopicBatch.__slots__})


def test_the_loss_is_the_teachers_shares_and_vectors(topics: TopicSource) -> None:
    batch = topic_batch([_drawn(topics, 5, empty=True), _drawn(topics, 6, empty=False)], writer(), 24, joint=False)
    generator = torch.Generator().manual_seed(0)
    masses = torch.rand(2, 3, batch.wanted.shape[1], batch.wanted.shape[2], generator=generator)
    states = torch.randn(2, batch.wanted.shape[2], TINY.width, generator=generator)
    asked = torch.randn(2, batch.wanted.shape[1], TINY.width, generator=generator)
    probe = torch.nn.Linear(TINY.width, batch.passage_vectors.shape[2])
    probe.requires_grad_(False)
    found = heads_loss(Paid(masses, states, asked), batch, probe, torch.tensor(2.0).log())
    expected, queries = 0.0, 0
    for at in range(2):
        for number in range(int(batch.present[at].sum())):
            wanted = batch.wanted[at, number].tolist()
            each = [_loss(masses[at, head, number], wanted) for head in range(3)]
            expected += _loss(masses[at, :, number].sum(dim=0), wanted) + EACH_HEAD * sum(each) / 3
            queries += 1
    assert queries == int(batch.present.sum())
    expected /= queries
    for given, vectors, of in (
        (states, batch.passage_vectors, batch.passage_vectors.abs().sum(dim=2) > 0),
        (asked, batch.query_vectors, batch.taught),
    ):
        one, other = probe(given)[of], vectors[of]
        cosine = (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1))
        expected += VECTORS * float((1 - cosine).mean())
    assert found.item() == pytest.approx(expected, rel=1e-4)


def _loss(masses: torch.Tensor, wanted: list[float]) -> float:
    kept = [at for at, share in enumerate(wanted) if share >= 0]
    total = sum((float(masses[at]) + LEAST) ** 2 for at in kept)
    pairs = [(wanted[at], (float(masses[at]) + LEAST) ** 2 / total) for at in kept]
    return sum(want * math.log(want / share) for want, share in pairs if want > 0)


def test_a_passage_that_is_left_out_counts_nowhere() -> None:
    wanted = torch.tensor([[[0.5, OUT, 0.5]]])
    even = torch.tensor([[[[0.2, 0.9, 0.2]]]])
    assert divergence(even, wanted).item() == pytest.approx(0.0, abs=1e-5)
    batch = topic_batch([_tiny_topic()], writer(), 24, joint=False)
    masses = torch.tensor([[[[0.1, 0.9, 0.3]]]])
    assert right(Paid(masses, masses, masses), batch) == (1, 1)


def _tiny_topic() -> Topic:
    wanted = np.array([[0.2, OUT, 0.8]], dtype=np.float32)
    return Topic(
        ("a cliff", "a ferry", "a puffin"),
        ("puffin",),
        wanted,
        np.eye(3, dtype=np.float32),
        np.ones((1, 3), dtype=np.float32),
    )


def test_every_token_has_its_place(topics: TopicSource) -> None:
    topic = _drawn(topics, 7, empty=True)
    for joint in (False, True):
        batch = topic_batch([topic], writer(), 24, joint=joint)
        ids, spans, _ = _prompt(topic, topic.queries[0], 24, joint=joint)
        seen = batch.seen[0]
        order = batch.positions[0].flatten()[seen].argsort()
        behind = spans[-1][1] + len(writer().separator())
        assert batch.ids[0].flatten()[seen][order].tolist() == ids[:behind]
        inside = batch.inside[0][seen][order]
        for at, (start, end) in enumerate(spans):
            assert inside[:, at].nonzero().flatten().tolist() == list(range(start, end))
        mine = (batch.asked[0] == 0) | (batch.asked[0] == SHARED)
        assert batch.query_ids[0][mine].tolist() == ids[behind:]
        assert batch.query_positions[0][mine].tolist() == list(range(behind, len(ids)))
        assert batch.tokens == int(seen.sum()) + int((batch.asked != NOBODY).sum())


def test_topics_have_every_querys_passage_and_a_target_for_each(topics: TopicSource) -> None:
    random = Random(0)
    out = whole = 0
    for _ in range(40):
        topic = topics.draw(random)
        assert len(topic.texts) == PASSAGES == len(set(topic.texts))
        assert topic.wanted.shape == (len(topic.queries), PASSAGES)
        assert topic.query_vectors.shape[0] == len(topic.queries)
        for row in topic.wanted:
            assert row[row >= 0].sum() == pytest.approx(1.0, abs=1e-5)
            assert (row < 0).sum() <= 1
            out += int((row < 0).any())
            whole += int((row >= 0).all())
    assert out > whole > 0


def test_what_a_query_took_is_not_in_its_passage(topics: TopicSource) -> None:
    queries = pool(source(), 0, 0)
    taken, whole = by_place(queries, taken=True), by_place(queries, taken=False)
    made = [query for query in queries if not query.real]
    assert sorted(i for each in (*taken.values(), *whole.values()) for i in each) == list(range(len(made)))
    for place, indices in taken.items():
        for index in indices:
            assert queries[index].place == place
            assert queries[index].left != corpus().passages[place].shown
            assert len(queries[index].left) < len(corpus().passages[place].shown)
    held = {question.text for _, question in source().dev()}
    assert not held & {query.text for query in queries if query.real}
    assert any(query.real for query in queries)


def test_a_step_has_the_same_topics_whatever_came_before(topics: TopicSource) -> None:
    first = topics_of(topics, writer(), seed=1, step=4, count=2)
    topics_of(topics, writer(), seed=1, step=3, count=2)
    again = topics_of(topics, writer(), seed=1, step=4, count=2)
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.wanted, again.wanted)
    assert not torch.equal(first.query_ids, topics_of(topics, writer(), seed=2, step=4, count=2).query_ids)


def test_the_pool_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    assert pool(source(), 0, 5) == pool(source(), 0, 5)
    assert pool(source(), 0, 5) != pool(source(), 0, 6)
