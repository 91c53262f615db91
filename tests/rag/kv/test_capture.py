"""Reading chunks: alone, together, behind a prefix, when memory is short."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from rag.errors import InvalidInput, ModelOutOfMemory
from rag.kv import capture
from rag.kv.capture import read_chunks
from rag.kv.layer import projected
from rag.kv.states import ChunkStates
from rag.runtime.meter import Limits, Meter, OutOfBudget
from rag.runtime.prompt import Prompt, Segment
from tests.rag.kv.models import model_of, read, tokens
from tests.tiny_models import CONTEXT, FAMILIES, one_thread

__all__ = ["one_thread"]


def differ(found: Sequence[ChunkStates], wanted: Sequence[ChunkStates]) -> float:
    pairs = [
        (getattr(f, name), getattr(w, name)) for f, w in zip(found, wanted, strict=True) for name in ("keys", "values")
    ]
    return max(float((f - w).abs().max()) for f, w in pairs if f.numel())


@pytest.mark.parametrize("family", FAMILIES)
def test_chunks_of_all_lengths_are_read_together_as_alone(family: str) -> None:
    model = model_of(family)
    head, *rows = tokens(12, 40, 1, 17, 33, 2)
    prefix = read(model, head)[0]
    for before in (None, prefix):
        together = read(model, *rows, prefix=before)
        assert differ(together, [read(model, row, prefix=before)[0] for row in rows]) < 2e-5
        assert [states.ids for states in together] == rows
        assert {states.behind for states in together} == {len(before.ids) if before else 0}
        assert all(
            states.keys.shape == (*together[0].keys.shape[:2], len(row), 16)
            for states, row in zip(together, rows, strict=True)
        )


def test_states_own_their_memory() -> None:
    first, second = read(model_of(), *tokens(9, 30))
    for states in (first, second):
        assert states.keys.is_contiguous()
        assert states.keys.untyped_storage().nbytes() * 2 == states.nbytes


def test_long_lists_are_read_in_parts_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "PASS_TOKENS", 64)
    model, meter = model_of(), Meter()
    rows = tokens(*[20] * 6, 50, 100)
    found = read_chunks(model, rows, meter)
    assert differ(found, [read(model, row)[0] for row in rows]) < 2e-5
    assert (meter.passes, meter.prefill) == (1 + 1 + 2, 6 * 20 + 150)


def test_a_pass_that_memory_is_too_short_for_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = model_of(), tokens(10, 11, 12, 13, 14)
    wanted, sizes = read(model, *rows), list[int]()

    def short(layer: Any, hidden: torch.Tensor) -> Any:
        sizes.append(hidden.shape[0])
        if hidden.shape[0] > 2:
            raise torch.OutOfMemoryError("short")
        return projected(layer, hidden)

    monkeypatch.setattr(capture, "projected", short)
    assert differ(read(model, *rows), wanted) < 2e-5
    assert max(sizes) == 5

    def none(*_: Any) -> Any:
        raise torch.OutOfMemoryError("short")

    monkeypatch.setattr(capture, "projected", none)
    with pytest.raises(ModelOutOfMemory):
        read(model, *rows)


def test_no_chunks_and_chunks_of_no_tokens() -> None:
    assert read(model_of()) == []
    (row,) = tokens(5)
    empty, full = read(model_of(), (), row)
    assert (empty.ids, empty.keys.shape[2], empty.nbytes, len(full.ids)) == ((), 0, 0, 5)
    (empty,) = read(model_of(), ())
    assert empty.nbytes == 0


def test_limits_of_the_request_hold() -> None:
    with pytest.raises(OutOfBudget):
        read_chunks(model_of(), tokens(30, 30), Meter(Limits(max_prefill_tokens=59)))
    with pytest.raises(InvalidInput, match=f"at most {CONTEXT}"):
        read(model_of(), *tokens(CONTEXT + 1))


def test_threads_share_the_model() -> None:
    """Reading chunks changes nothing that others of the model see."""
    model = model_of("qwen3")
    rows = tokens(*range(5, 25))
    wanted = read(model, *rows)
    head, end = (Prompt((Segment(ids),)) for ids in tokens(30, 8, seed=1))
    attention = model.attention(head, [end], Meter())[0]

    def one(i: int) -> bool:
        if i % 2:
            return bool((model.attention(head, [end], Meter())[0] == attention).all())
        found: list[ChunkStates] = read(model, *rows)
        return differ(found, wanted) == 0.0

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(12)))
