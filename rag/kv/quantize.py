"""How states are stored: as they are, in 8 bits, or in 4; one table of parts, one writer and one reader for all.

Quantised codes q stand for ``(q * scale + zero) * unit``: scale and zero are float16, and unit, a power of two a head,
brings that head's largest magnitude to [2**14, 2**15): float16 neither overflows nor loses what is small. Keys share
scale and zero along the tokens (per channel), values along the channels (per token), as in KIVI (arXiv 2402.02750).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Scheme = Literal["bf16", "fp16", "fp32", "int8", "int4"]
Kind = Literal["keys", "values"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
PLAIN: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
GROUP = 32
"""Elements that share scale and zero in 4 bits."""
_TOP = 15
_HALF_STEP = 2.0**-24
"""The smallest positive float16."""


class Part(NamedTuple):
    """One array of one layer."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """One layer's keys, and likewise its values: (heads, tokens, head_dim)."""

    heads: int
    tokens: int
    head_dim: int


def parts(scheme: Scheme, kind: Kind, shape: Shape) -> tuple[Part, ...]:
    """The arrays that hold one layer's keys or values, the widest elements first, so that all are aligned."""
    whole = (shape.heads, shape.tokens, shape.head_dim)
    if scheme in PLAIN:
        return (Part("plain", PLAIN[scheme], whole),)
    if scheme == "int4" and shape.head_dim % 2:
        raise ValueError(f"int4 packs two channels a byte and head_dim is {shape.head_dim}; store int8")
    axis = _axis(kind)
    size = whole[axis]
    groups = -(-size // GROUP) if scheme == "int4" else 1
    shared = (shape.heads, groups, shape.head_dim) if axis == -2 else (shape.heads, shape.tokens, groups)
    width = shape.head_dim // 2 if scheme == "int4" else shape.head_dim
    return (
        Part("unit", torch.float32, (shape.heads, 1, 1)),
        Part("scale", torch.float16, shared),
        Part("zero", torch.float16, shared),
        Part("codes", torch.uint8, (shape.heads, shape.tokens, width)),
    )


def write(scheme: Scheme, kind: Kind, states: Tensor, into: dict[str, Tensor]) -> None:
    """Fills the parts (layers, *Part.shape) from states (layers, heads, tokens, head_dim).

    Raises ValueError for states that are not finite, or that float16 cannot hold.
    """
    bound = torch.finfo(PLAIN.get(scheme, torch.float32)).max
    for layer, layer_states in enumerate(states.detach()):  # a layer stays in the processor's cache
        low, high = torch.aminmax(layer_states)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise ValueError("states with inf or nan are not stored; the model's dtype overflows: load it as bfloat16")
        if max(-float(low), float(high)) > bound:
            raise ValueError(f"states beyond {bound} do not fit {scheme}; store bf16")
        if scheme in PLAIN:
            into["plain"][layer].copy_(layer_states)
        else:
            for name, value in _quantised(scheme, kind, layer_states.float()).items():
                into[name][layer].copy_(value)


def _quantised(scheme: Scheme, kind: Kind, states: Tensor) -> dict[str, Tensor]:
    """The parts of one layer's states, (heads, tokens, head_dim) float32.

    zero is at or below a group's smallest element and zero + levels * scale at or above its largest, as rounded to
    float16: so no element is clipped, and none is more than half a scale off.
    """
    levels, axis = (15 if scheme == "int4" else 255), _axis(kind)
    size = states.shape[axis]
    scaled, unit = _to_unit(states)
    low, high = _extremes(scaled, axis, GROUP if scheme == "int4" else size)
    zero = low.half()
    zero = torch.where(zero.float() > low, _below(zero), zero)
    span = high - zero.float()
    scale = (span / levels).half()
    scale = torch.where(scale.float() * levels < span, _above(scale), scale)
    step = _spread(scale.float(), axis, size).clamp_min(_HALF_STEP)
    codes = ((scaled - _spread(zero.float(), axis, size)) / step).round_().clamp_(0, levels).to(torch.uint8)
    if scheme == "int4":
        half = codes.shape[-1] // 2
        codes = codes[..., :half] | (codes[..., half:] << 4)
    return {"unit": unit, "scale": scale, "zero": zero, "codes": codes}


def read(scheme: Scheme, kind: Kind, stored: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """States (layers, heads, tokens, head_dim) as ``dtype``; a view of the stored bytes where they are of it already.

    In 8 and 4 bits an element is at most half a scale off, and the rounding to ``dtype``.
    """
    if scheme in PLAIN:
        return stored["plain"].to(dtype)
    codes, axis = stored["codes"], _axis(kind)
    width = codes.shape[-1] * (2 if scheme == "int4" else 1)
    out = torch.empty((*codes.shape[:-1], width), dtype=dtype)
    unit, scale, zero = stored["unit"], stored["scale"].float(), stored["zero"].float()
    limits = torch.finfo(dtype)
    close = float(unit.max()) * 2.0**_TOP > limits.max / 4  # q * scale could overflow before zero is added
    if not close:
        scale, zero = scale * unit, zero * unit
    size = out.shape[axis]
    states = torch.empty(out.shape[1:], dtype=torch.float32)
    layers = zip(codes.unbind(), scale.unbind(), zero.unbind(), unit.unbind(), out.unbind(), strict=True)
    for q, step, low, power, into in layers:  # a layer stays in the processor's cache
        states.copy_(torch.cat((q & 15, q >> 4), -1) if scheme == "int4" else q)
        states.mul_(_spread(step, axis, size)).add_(_spread(low, axis, size))
        into.copy_(states.mul_(power).clamp_(limits.min, limits.max) if close else states)
    return out


def _axis(kind: Kind) -> int:
    return -2 if kind == "keys" else -1


def _to_unit(states: Tensor) -> tuple[Tensor, Tensor]:
    """States over a power of two a head, and that power; exact."""
    _, exponent = torch.frexp(states.abs().amax((-2, -1), keepdim=True))
    exponent = (exponent - _TOP).clamp_min(-126)
    unit = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)
    return states / unit, unit


def _extremes(states: Tensor, axis: int, group: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest of every group along the axis, (…, groups, …)."""
    pieces = torch.split(states, group, axis)
    low = [piece.amin(axis, keepdim=True) for piece in pieces]
    high = [piece.amax(axis, keepdim=True) for piece in pieces]
    return torch.cat(low, axis), torch.cat(high, axis)


def _spread(shared: Tensor, axis: int, size: int) -> Tensor:
    """One number an element again; a single group is left to broadcasting."""
    if shared.shape[axis] == 1:
        return shared
    return shared.repeat_interleave(GROUP, axis).narrow(axis, 0, size)


def _below(half: Tensor) -> Tensor:
    """A float16 at least one step and at most three below."""
    return (half.float() - half.float().abs() * 2.0**-10 - _HALF_STEP).half()


def _above(half: Tensor) -> Tensor:
    return (half.float() + half.float().abs() * 2.0**-10 + _HALF_STEP).half()
