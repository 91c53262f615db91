"""What is asked of composed states, against the same asked of whole prompts."""

from __future__ import annotations

import numpy as np
import pytest

from rag.kv.behind import attention_behind, logits_behind
from rag.kv.compose import compose
from rag.kv.modes import parse_mode
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Segment
from tests.rag.kv.models import model_of, read, tokens
from tests.tiny_models import FAMILIES, one_thread

__all__ = ["one_thread"]
HEAD, *ROWS, QUESTION, OTHER = tokens(8, 20, 25, 6, 9)


def prompt(*rows: tuple[int, ...]) -> Prompt:
    return Prompt(tuple(Segment(row) for row in rows))


@pytest.mark.parametrize("mode", ["prefix", "link-25"])
@pytest.mark.parametrize("family", FAMILIES)
def test_attention_behind_is_the_attention_of_the_whole_prompt(family: str, mode: str) -> None:
    model, meter = model_of(family), Meter()
    prefix = read(model, HEAD)[0]
    heads = {0: (1,), 1: (0, 3)}
    for chosen, layers in ((None, None), (heads, 2)):
        found = compose(
            model, prefix, read(model, *ROWS, prefix=prefix), parse_mode(mode), Meter(), room=9, layers=layers
        )
        wanted = model.attention(prompt(HEAD, *ROWS), [prompt(QUESTION), prompt(OTHER)], Meter(), chosen)
        for got, want in zip(attention_behind(model, found, [QUESTION, OTHER], meter, chosen), wanted, strict=True):
            assert got == pytest.approx(want, abs=1e-5)
    assert meter.prefill == 2 * (6 + 9)


def test_attention_head_by_head() -> None:
    model = model_of()
    found = compose(model, HEAD, ROWS, parse_mode("full"), Meter(), room=6)
    apart = attention_behind(model, found, [QUESTION], Meter(), per_head=True)[0]
    assert apart == pytest.approx(model.head_attention(prompt(HEAD, *ROWS), [prompt(QUESTION)], Meter())[0], abs=1e-6)
    assert attention_behind(model, found, [QUESTION], Meter())[0] == pytest.approx(apart.sum(axis=(0, 1)), abs=1e-5)


def test_suffixes_leave_no_trace() -> None:
    model = model_of()
    found = compose(model, HEAD, ROWS, parse_mode("full"), Meter(), room=9)
    first = logits_behind(model, found, QUESTION, Meter())
    logits_behind(model, found, OTHER, Meter())
    assert np.array_equal(logits_behind(model, found, QUESTION, Meter()), first)
