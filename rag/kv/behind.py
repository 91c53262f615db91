"""What is asked of composed states: attention of suffixes to their tokens, and the scores of what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag.errors import InvalidInput
from rag.kv.compose import Composed
from rag.runtime.meter import Meter
from rag.runtime.reader import Array, Heads

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel


def attention_behind(
    model: LanguageModel,
    composed: Composed,
    suffixes: Sequence[Sequence[int]],
    meter: Meter,
    heads: Heads | None = None,
    *,
    per_head: bool = False,
) -> list[Array]:
    """For each suffix, (tokens,) float32: the attention its rows pay to each composed token, as ``attention`` has it.

    Mean over the suffix's rows, sum over heads; with ``per_head`` (layers, heads, tokens).
    """
    for suffix in suffixes:
        _check(composed, suffix, 1 + max(heads) if heads else model.shape[0])

    def read() -> list[Array]:
        return [model.read_behind(tuple(s), composed.states, meter, heads, per_head=per_head) for s in suffixes]

    return model.alone(meter, read, len(composed.ids))


def logits_behind(model: LanguageModel, composed: Composed, suffix: Sequence[int], meter: Meter) -> Array:
    """(suffix, vocabulary) float32: the logits behind each token of the suffix."""
    _check(composed, suffix, model.shape[0])

    def read() -> Array:
        found: Array = model.scores(_followed(model, composed, suffix, meter), None).cpu().numpy()
        return found

    return model.alone(meter, read, len(composed.ids))


def _followed(model: LanguageModel, composed: Composed, ids: Sequence[int], meter: Meter) -> torch.Tensor:
    """(ids, width) normed hidden states behind the composed ones."""
    meter.allow(len(ids))
    hidden = model.follow(ids, composed.states)
    assert hidden is not None
    meter.count(len(ids), held=composed.states.bytes)
    return hidden[0]


def _check(composed: Composed, suffix: Sequence[int], layers: int) -> None:
    room = composed.states.capacity - composed.states.length
    if not 1 <= len(suffix) <= room:
        raise InvalidInput(
            f"a suffix of {len(suffix)} tokens; there is room for {room}: compose with room={len(suffix)}"
        )
    if layers > len(composed.states.keys):
        raise InvalidInput(f"{layers} layers are asked of states composed in {len(composed.states.keys)}")
