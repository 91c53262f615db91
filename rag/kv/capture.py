"""Reading chunks for their states: many at once, each behind the same prefix, keys taken before their rotation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rag.errors import ModelOutOfMemory
from rag.kv.layer import finish, projected
from rag.kv.rope import Rope, angles, check_supported, rotated
from rag.kv.states import ChunkStates
from rag.runtime.attention import attend
from rag.runtime.meter import Meter

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel

PASS_TOKENS = 2048
PASS_TOKENS_CUDA = 16_384
"""Padded tokens that one pass reads."""

Ids = tuple[int, ...]
Where = Literal["cpu", "model"]
Watch = Callable[[int, "torch.Tensor", "torch.Tensor"], None]
"""Told of each layer its rotated queries and keys (1, heads, tokens, head_dim), those of the prefix among the keys."""


def read_chunks(
    model: LanguageModel,
    chunks: Sequence[Sequence[int]],
    meter: Meter,
    *,
    prefix: ChunkStates | None = None,
    on: Where = "cpu",
) -> list[ChunkStates]:
    """The states of each chunk by itself behind the prefix, in the order given, in the model's dtype.

    prefix  what this function gave for the prefix's ids, read behind nothing
    on      where the states are kept: in the CPU's memory or on the model's device
    A chunk's states depend on the chunks beside it by rounding only. Raises ModelNotAvailable, ModelOutOfMemory.
    """
    check_supported(model)
    wanted = [tuple(ids) for ids in chunks]
    past = len(prefix.ids) if prefix else 0
    model.check(past + max(map(len, wanted), default=0))
    limit = PASS_TOKENS_CUDA if model.model.device.type == "cuda" else PASS_TOKENS
    found: dict[int, ChunkStates] = {}
    for places in _parts([len(ids) for ids in wanted], limit):
        found |= zip(places, _read(model, [wanted[i] for i in places], prefix, meter, on), strict=True)
    return [found[i] for i in range(len(wanted))]


def read_watched(
    model: LanguageModel, ids: Sequence[int], meter: Meter, watch: Watch, *, prefix: ChunkStates | None = None
) -> ChunkStates:
    """The states of one text of tokens on the model's device; ``watch`` sees every layer."""
    check_supported(model)
    model.check(len(ids) + (len(prefix.ids) if prefix else 0))

    def read() -> ChunkStates:
        meter.allow(len(ids))
        return _pass(model, [tuple(ids)], prefix, meter, "model", watch)[0]

    return model.alone(meter, read, len(ids))


def _parts(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Places of chunks that are read together: those of like length, as many as fit."""
    part: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if part and (len(part) + 1) * lengths[part[0]] > limit:
            yield part
            part = []
        part.append(place)
    if part:
        yield part


def _read(
    model: LanguageModel, rows: Sequence[Ids], prefix: ChunkStates | None, meter: Meter, on: Where
) -> list[ChunkStates]:
    """One pass; two of half the rows each where memory is too short for it."""

    def read() -> list[ChunkStates]:
        meter.allow(sum(map(len, rows)))
        return _pass(model, rows, prefix, meter, on)

    try:
        return model.alone(meter, read, max(map(len, rows)))
    except ModelOutOfMemory:
        if len(rows) == 1:
            raise
    half = len(rows) // 2
    return [*_read(model, rows[:half], prefix, meter, on), *_read(model, rows[half:], prefix, meter, on)]


def _pass(
    model: LanguageModel,
    rows: Sequence[Ids],
    prefix: ChunkStates | None,
    meter: Meter,
    on: Where,
    watch: Watch | None = None,
) -> list[ChunkStates]:
    """Rows are padded at their ends, where causal attention never looks."""
    import torch

    core: Any = model.model.model
    device, dtype = model.model.device, model.model.dtype
    past, new = len(prefix.ids) if prefix else 0, max(map(len, rows))
    ids = torch.zeros(len(rows), new, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    before, rope = angles(model, torch.arange(past)), angles(model, torch.arange(past, past + new))
    config = core.layers[0].self_attn
    shape = (len(core.layers), len(rows), model.model.config.num_key_value_heads, new, config.head_dim)
    keys, values = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
    hidden = core.embed_tokens(ids.to(device))
    for at, layer in enumerate(core.layers if new else ()):
        query, key, value = projected(layer, hidden)
        keys[at], values[at] = key, value
        if at == len(core.layers) - 1 and watch is None:
            break  # nothing needs what the last layer gives
        query, key = rotated(query, rope), rotated(key, rope)
        if prefix is not None:
            key, value = _behind(prefix, at, before, key, value)
        if watch is not None:
            watch(at, query, key)
        finish(layer, hidden, attend(layer.self_attn, query, key, value, None, layer.self_attn.scaling)[0])
    meter.count(sum(map(len, rows)), held=2 * keys.numel() * keys.element_size())
    return [_cut(keys, values, i, row, past, "cpu" if on == "cpu" else device) for i, row in enumerate(rows)]


def _behind(
    prefix: ChunkStates, layer: int, rope: Rope, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotated keys, and values, of every row with those of the prefix in front."""
    import torch

    first = rotated(prefix.keys[layer][None].to(key), rope).expand(key.shape[0], -1, -1, -1)
    second = prefix.values[layer][None].to(value).expand(key.shape[0], -1, -1, -1)
    return torch.cat((first, key), dim=2), torch.cat((second, value), dim=2)


def _cut(
    keys: torch.Tensor, values: torch.Tensor, row: int, ids: Ids, behind: int, device: torch.device | str
) -> ChunkStates:
    """One row's states in memory of their own."""
    import torch

    def own(states: torch.Tensor) -> torch.Tensor:
        return states[:, row, :, : len(ids)].to(device, copy=True, memory_format=torch.contiguous_format)

    return ChunkStates(ids, own(keys), own(values), behind)
