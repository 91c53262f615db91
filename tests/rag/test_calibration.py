"""What cache modes change, measured: nothing for modes without loss, and what plain arithmetic finds for others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from rag.calibration import Case, calibrate, made_questions
from rag.errors import InvalidInput
from rag.generation.prompt import written
from rag.kv.modes import parse_mode
from rag.reranking.icr import lead_of
from rag.values import Chunk, Context, Hit, Query, Ranking, ScoreKind, StageReport
from tests.rag.kv.models import model_of
from tests.tiny_models import QUERY, TEXTS, one_thread, plain_model

__all__ = ["one_thread"]
CHUNKS = tuple(Chunk(f"c{i}", f"d{i}", text, 0, len(text)) for i, text in enumerate(TEXTS))
CASES = [Case(Query(QUERY), CHUNKS), Case(Query("Where do puffins nest?"), CHUNKS[1:4])]


def test_modes_without_loss_change_nothing() -> None:
    modes = [parse_mode(mode) for mode in ("prefix", "link-100000", "blend-1", "independent")]
    *exact, lossy, stored = calibrate(
        model_of(), CASES, "fp32", collection="c", modes=modes, stored=("fp32",), answer_tokens=5
    )
    for one in (*exact, stored):
        assert one.kl == pytest.approx(0, abs=1e-5)
        assert one.nll == pytest.approx(0, abs=1e-4)
        assert (one.agreement, one.tau, one.overlap) == (1, 1, 1)
    assert lossy.kl > 1e-2
    assert lossy.tau < 1
    assert (lossy.questions, lossy.dtype, lossy.mode, stored.mode) == (2, "float32", "independent", "stored")


def test_fewer_bits_change_more() -> None:
    eight, four = calibrate(model_of(), CASES, "fp32", collection="c", modes=(), stored=("int8", "int4"))
    assert 0 < eight.kl < four.kl
    assert eight.agreement >= four.agreement


def test_the_divergence_is_that_of_a_plain_forward_with_a_block_mask() -> None:
    model, plain = model_of(), plain_model("llama")
    case = Case(Query(QUERY), CHUNKS[:1])
    hits = (Hit(CHUNKS[0], 0.0),)
    given = Ranking(hits, ScoreKind.RANK, StageReport("given"))
    prompt = written(model.tokenizer, model.family, case.query, Context(hits, 0, 0, given, given.report), 999).prompt
    before = sum(len(segment.ids) for segment in prompt.segments[:2])
    passage = len(prompt.segments[2].ids)
    ids = list(prompt.ids)
    with torch.inference_mode():
        for _ in range(3):  # greedy
            ids.append(int(plain(torch.tensor([ids])).logits[0, -1].argmax()))
        full = plain(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    found = _forward_with(plain, ids, before, passage, tuple(lead_of(model)))
    rows = slice(len(prompt.ids) - 1, len(ids) - 1)
    wanted = (full[rows].exp() * (full[rows] - found[rows])).sum(-1)
    (measured,) = calibrate(
        model, [case], "fp32", collection="c", modes=[parse_mode("independent")], stored=(), answer_tokens=3
    )
    assert measured.positions == 3
    assert measured.kl == pytest.approx(float(wanted.mean()), rel=1e-3)
    tokens = torch.tensor(ids[len(prompt.ids) :])
    change = (full[rows] - found[rows]).gather(1, tokens[:, None]).mean()
    assert measured.nll == pytest.approx(float(change), rel=1e-3)


def _forward_with(plain: Any, ids: list[int], before: int, passage: int, lead: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities where the passage sees the lead, which stands at its own positions, and itself alone.

    The lead is put in front; the rest of the prompt does not see it, and has the positions it has without it.
    """
    n, m, at = len(lead), len(ids), before
    allowed = torch.zeros(n + m, n + m, dtype=torch.bool)
    allowed[:n, :n] = torch.ones(n, n).tril().bool()
    allowed[n:, n:] = torch.ones(m, m).tril().bool()
    inside = slice(n + at, n + at + passage)
    allowed[inside, n : n + at] = False
    allowed[inside, :n] = True
    mask = torch.zeros(1, 1, n + m, n + m).masked_fill(~allowed, torch.finfo(torch.float32).min)
    # only distances count: the lead ends where the passage begins
    positions = torch.cat([torch.arange(at - n, at), torch.arange(m)])[None]
    with torch.inference_mode():
        logits = plain(torch.tensor([[*lead, *ids]]), attention_mask=mask, position_ids=positions).logits
    found: torch.Tensor = logits[0, n:].double().log_softmax(-1)
    return found


def test_a_question_is_a_title_or_what_a_text_begins_with_and_comes_once() -> None:
    chunks = [
        Chunk("a", "a", "First words here. Then more.", 0, 9),
        Chunk("b", "b", "text", 0, 4, "A title"),
        Chunk("c", "c", "other", 0, 5, "A title"),
        Chunk("d", "d", " ".join(map(str, range(40))), 0, 5),
        Chunk("e", "e", "   ", 0, 3),
    ]
    assert made_questions(chunks, 9) == ["First words here.", "A title", " ".join(map(str, range(16)))]
    assert made_questions(chunks, 2, seed=1) == made_questions(iter(chunks), 2, seed=1)


def test_every_passage_is_asked_about_as_often_as_any_other() -> None:
    chunks = [Chunk(str(i), str(i), f"text {i}", 0, 5) for i in range(6)]
    drawn = Counter(text for seed in range(3000) for text in made_questions(chunks, 2, seed))
    assert sum(drawn.values()) == 6000
    np.testing.assert_allclose(list(drawn.values()), 1000, rtol=0.12)  # four standard deviations


def test_there_must_be_something_to_measure_on() -> None:
    with pytest.raises(InvalidInput, match="--queries"):
        calibrate(model_of(), [], "fp32", collection="c")
