"""What quantised states may differ by, for any states."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.kv.quantize import GROUP, SCHEMES, Kind, Scheme, Shape, parts, read, write

MAGNITUDES = [0.0, 1e-45, 1e-40, 1e-30, 1e-8, 1e-3, 1.0, 100.0, 1e4, 65504.0, 1e8, 1e30, 1e38]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ROUNDING = {torch.float32: 2.0**-21, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}
"""Of the result to its dtype, relative; float32 arithmetic itself costs 2**15 * 2**-24 units, as no state is larger."""


@st.composite
def states(draw: st.DrawFn) -> torch.Tensor:
    """(layers, heads, tokens, head_dim): channels of very different magnitude and offset, some of them constant."""
    shape = [draw(st.integers(1, most)) for most in (2, 2, 70)]
    head_dim = 2 * draw(st.integers(1, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    drawn = torch.randn(*shape, head_dim, generator=generator)
    scale, offset = (torch.tensor(draw(st.lists(st.sampled_from(MAGNITUDES), min_size=3, max_size=3))) for _ in "ab")
    which = torch.randint(0, 3, (head_dim,), generator=generator)
    dtype = draw(st.sampled_from(DTYPES))
    limit = torch.finfo(dtype).max
    return (drawn.double() * scale[which] + offset[which]).clamp(-limit, limit).to(dtype)


def stored(scheme: Scheme, kind: Kind, given: torch.Tensor) -> dict[str, torch.Tensor]:
    shape = Shape(*given.shape[1:])
    made = {
        part.name: torch.zeros(given.shape[0], *part.shape, dtype=part.dtype) for part in parts(scheme, kind, shape)
    }
    write(scheme, kind, given, made)
    return made


@settings(max_examples=100, deadline=None)
@given(states(), st.sampled_from(["int8", "int4"]), st.sampled_from(["keys", "values"]))
def test_an_element_is_at_most_half_a_scale_off(given: torch.Tensor, scheme: Scheme, kind: Kind) -> None:
    made = stored(scheme, kind, given)
    back = read(scheme, kind, made, given.dtype)
    axis = -2 if kind == "keys" else -1
    steps = made["scale"].double() * made["unit"].double()
    if steps.shape[axis] > 1:
        steps = steps.repeat_interleave(GROUP, axis).narrow(axis, 0, given.shape[axis])
    rounding = (given.double().abs() + back.double().abs()) * ROUNDING[given.dtype] + made["unit"] * 2.0**-9
    assert back.dtype == given.dtype
    assert torch.isfinite(back).all()
    assert ((back.double() - given.double()).abs() <= steps / 2 + rounding).all()


@settings(max_examples=40, deadline=None)
@given(states(), st.sampled_from(["keys", "values"]))
def test_a_scale_is_no_larger_than_its_group_s_range_asks_for(given: torch.Tensor, kind: Kind) -> None:
    """Else half a scale would say nothing. What float16 adds: a step of zero, and of the scale itself."""
    made = stored("int8", kind, given)
    axis = -2 if kind == "keys" else -1
    span = (given.double().amax(axis, keepdim=True) - given.double().amin(axis, keepdim=True)) / made["unit"]
    zero = made["zero"].double().abs()
    allowed = (span + zero * 2.0**-8 + 2.0**-22) / 255
    assert (made["scale"].double() <= allowed * (1 + 2.0**-8) + 2.0**-23).all()


def test_int8_of_eight_bit_numbers_is_exact() -> None:
    """255 over a unit of 2**-7 is 32640: scale is 32640 / 255 = 2**7, zero is 0, and every element a code."""
    ramp = torch.arange(256.0).reshape(1, 1, 256, 1).expand(1, 1, 256, 4)
    made = stored("int8", "keys", ramp)
    assert set(made["unit"].flatten().tolist()) == {2.0**-7}
    assert set(made["scale"].flatten().tolist()) == {2.0**7}
    assert torch.equal(read("int8", "keys", made, torch.float32), ramp)


def test_keys_share_their_scale_along_tokens_and_values_along_channels() -> None:
    loud = torch.ones(1, 1, 4, 6)
    loud[..., 2] = torch.tensor([1000.0, -1000.0, 500.0, 0.0])
    for kind, shape in (("keys", (1, 1, 1, 6)), ("values", (1, 1, 4, 1))):
        assert stored("int8", kind, loud)["scale"].shape == shape  # type: ignore[arg-type]
    back = read("int8", "keys", stored("int8", "keys", loud), torch.float32)
    quiet = [0, 1, 3, 4, 5]
    assert torch.equal(back[..., quiet], loud[..., quiet])  # a loud channel costs no other channel anything


def test_four_bits_in_groups_of_32_take_half_a_byte_each() -> None:
    made = stored("int4", "keys", torch.randn(1, 2, 33, 8))
    assert made["codes"].shape == (1, 2, 33, 4)
    assert made["scale"].shape == (1, 2, 2, 8)  # ceil(33 / 32)
    assert stored("int4", "values", torch.randn(1, 2, 5, 64))["scale"].shape == (1, 2, 5, 2)


@pytest.mark.parametrize(
    ("scheme", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_a_scheme_of_the_states_own_dtype_changes_no_bit(scheme: Scheme, dtype: torch.dtype) -> None:
    given = torch.randn(2, 2, 5, 4).to(dtype)
    assert torch.equal(read(scheme, "keys", stored(scheme, "keys", given), dtype), given)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_states_that_are_not_finite_are_refused(scheme: Scheme, bad: float) -> None:
    given = torch.randn(2, 1, 3, 4)
    given[1, 0, 2, 3] = bad
    with pytest.raises(ValueError, match="inf or nan"):
        stored(scheme, "keys", given)


def test_states_too_large_for_float16_are_refused_there_and_taken_elsewhere() -> None:
    given = torch.full((1, 1, 2, 4), -7e4)
    with pytest.raises(ValueError, match="store bf16"):
        stored("fp16", "keys", given)
    for scheme in ("int8", "bf16", "fp32"):
        back = read(scheme, "keys", stored(scheme, "keys", given), torch.float32)
        assert (back + 7e4).abs().max() < 7e4 / 2**8


def test_int4_wants_channels_in_pairs() -> None:
    with pytest.raises(ValueError, match="head_dim is 3; store int8"):
        parts("int4", "keys", Shape(1, 1, 3))
