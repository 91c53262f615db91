"""Many questions behind cached chunks in one pass, against one at a time."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from rag.errors import InvalidInput, ModelOutOfMemory
from rag.kv import together
from rag.kv.attended import read_variants
from rag.kv.behind import logits_behind
from rag.kv.compose import Composed, compose
from rag.kv.modes import parse_mode
from rag.kv.together import Question, Reused, ask
from rag.language_model import LanguageModel
from rag.runtime.keyvalues import KeyValues
from rag.runtime.meter import Meter
from tests.rag.kv.models import model_of, read, tokens
from tests.tiny_models import FAMILIES, one_thread, saved

__all__ = ["one_thread"]
HEAD, OTHER, *ROWS, LONG, SHORT = tokens(8, 5, 20, 1, 25, 6, 9, 2)
MODES = ("full", "prefix", "independent", "link-4", "blend-0.25", "blend-0.25-values", "craft-0.5", "ape", "ape-1-1")
CLOSE = 2e-5
"""Largest difference of a logit in float32, of logits of about 1."""


def questions(model: LanguageModel) -> list[Question]:
    """Of different lengths; with chunks twice, out of order, of one token, without states, and without chunks."""
    prefix, other = read(model, HEAD, OTHER)
    a, b, c, d = read(model, *ROWS, prefix=prefix)
    behind = read_variants(model, ROWS[:2], Meter(), prefix=prefix)
    return [
        Question(prefix, [a, b, c], LONG, 7),
        Question(prefix, [c, a], SHORT),
        Question(prefix, [d, d], LONG),
        Question(prefix, [a, ROWS[3], c], LONG[:1]),
        Question(HEAD, [b, a], SHORT),
        Question(other, [ROWS[0], ROWS[3]], LONG),
        Question(prefix, [], LONG),
        Question(prefix, behind, SHORT),
    ]


def alone(model: LanguageModel, question: Question, mode: str) -> tuple[np.ndarray, Composed]:
    """The plain twin: composed by itself, the tail read behind it."""
    found = compose(model, question.prefix, question.chunks, parse_mode(mode), Meter(), room=len(question.tail))
    return logits_behind(model, found, question.tail, Meter()), found


def asked(
    model: LanguageModel, some: Sequence[Question], mode: str, meter: Meter | None = None
) -> list[tuple[np.ndarray, Reused]]:
    def finished(_: Question, hidden: torch.Tensor) -> np.ndarray:
        found: np.ndarray = model.scores(hidden, None).numpy()
        return found

    return list(ask(model, some, parse_mode(mode), meter or Meter(), finished))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_together_is_one_by_one(family: str, mode: str) -> None:
    model = model_of(family)
    some = questions(model)
    for (logits, said), question in zip(asked(model, some, mode), some, strict=True):
        wanted, composed = alone(model, question, mode)
        np.testing.assert_allclose(logits, wanted, atol=CLOSE * max(1.0, float(np.abs(wanted).max())))
        assert (said.tokens, said.exact, said.rounded) == (len(composed.ids), composed.exact, "")
        assert said.recomputed == pytest.approx(composed.recomputed)


def test_one_pass_computes_the_new_tokens_of_all() -> None:
    model, meter = model_of(), Meter()
    prefix = read(model, HEAD)[0]
    chunks = read(model, *ROWS, prefix=prefix)
    some = [Question(prefix, [one, (3, 4), other], LONG) for one in chunks for other in chunks]
    asked(model, some, "independent", meter)
    assert (meter.passes, meter.prefill) == (1, len(some) * (2 + len(LONG)))


@pytest.mark.parametrize(("active", "held"), [(1, 10**6), (20, 10**6), (10**6, 1), (10**6, 120)])
@pytest.mark.parametrize("mode", ["independent", "blend-0.25"])
def test_passes_are_bounded_and_parting_changes_nothing(
    mode: str, active: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    some = questions(model)[:4]
    whole, meter = asked(model, some, mode), Meter()
    monkeypatch.setattr(together, "ACTIVE", active)
    monkeypatch.setattr(together, "HELD", held)
    for (logits, _), (wanted, _) in zip(asked(model, some, mode, meter), whole, strict=True):
        np.testing.assert_allclose(logits, wanted, atol=CLOSE * float(np.abs(wanted).max()))
    longest = max(sum(map(len, (HEAD, q.tail))) + sum(len(_ids(c)) for c in q.chunks) for q in some)
    token = 2 * 3 * 2 * 16 * 4  # keys and values, layers, heads, head_dim, bytes
    assert meter.peak_bytes <= max(held, longest) * token
    assert meter.passes > 1


def _ids(chunk: object) -> Sequence[int]:
    return chunk if isinstance(chunk, tuple) else chunk.ids  # type: ignore[attr-defined]


def test_a_pass_that_memory_is_too_short_for_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LanguageModel(str(saved("llama")), device="cpu", dtype="float32")
    some = questions(model)
    wanted = asked(model, some, "independent")
    held: weakref.WeakSet[KeyValues] = weakref.WeakSet()
    honest, room = model.memory, [3]

    def memory(batch: int, capacity: int, layers: int | None = None) -> KeyValues:
        if len(held) >= room[0]:
            raise MemoryError
        states = honest(batch, capacity, layers)
        held.add(states)
        return states

    monkeypatch.setattr(model, "memory", memory)
    for (logits, _), (want, _) in zip(asked(model, some, "independent"), wanted, strict=True):
        np.testing.assert_allclose(logits, want, atol=CLOSE * float(np.abs(want).max()))
    room[0] = 0
    with pytest.raises(ModelOutOfMemory):
        asked(model, some, "independent")


def test_a_question_without_tokens_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one token"):
        asked(model_of(), [Question(HEAD, [ROWS[0]], ())], "independent")
    assert asked(model_of(), [], "independent") == []
