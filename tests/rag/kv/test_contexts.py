"""Contexts in stored values and in the index: what comes back is what was written, or nothing does."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import BadCache
from rag.kv.contexts import MOST, PackedContext, packed, unpacked
from rag.kv.craft import Context
from rag.kv.entries import MOST_BYTES, encode_entry, is_entry, parse_entry
from rag.kv.key import token_hash
from rag.kv.layout import ALIGN, HEADER, encode, parse
from tests.rag.kv.chunks import chunk, encoded

A, B, FRONT = token_hash([1]), token_hash([2]), token_hash([1, 9, 2, 9])
READ = Context((A, B), (3.5, 1.25), 0.75, np.array([0.5, 2.0, 0.0, 1.5, 0.25], np.float32), FRONT, exact=False)
floats = st.floats(0, 1e6, width=32)


def equal(one: Context, other: Context, *, tokens: bool = True) -> bool:
    same = (one.before, one.inter, one.cci, one.front, one.exact) == (
        other.before, other.inter, other.cci, other.front, other.exact,
    )  # fmt: skip
    return same and (not tokens or np.array_equal(one.tokens, other.tokens))  # type: ignore[arg-type]


@given(st.lists(floats, max_size=6), st.floats(0.5, 1, exclude_max=True), st.lists(floats, max_size=9), st.booleans())
def test_a_context_comes_back(inter: list[float], cci: float, tokens: list[float], exact: bool) -> None:
    before = tuple(token_hash([n]) for n in range(len(inter)))
    front = FRONT if inter else ""
    context = Context(before, tuple(inter), cci, np.array(tokens, np.float32), front, exact)
    assert equal(unpacked(packed(context), len(tokens)), context)
    assert equal(unpacked(packed(context, tokens=False), None), context, tokens=False)


@pytest.mark.parametrize("secret", [b"", b"ours"])
def test_a_variant_s_value_holds_its_context(secret: bytes) -> None:
    value = encode(chunk(), "bf16", "f", "c0", secret=secret, context=READ)
    assert equal(parse(value, secret=secret).context, READ)


def test_a_value_with_a_context_of_other_tokens_is_refused() -> None:
    with pytest.raises(BadCache, match="do not fit"):
        parse(encode(chunk(1, 6), "bf16", "f", "c0", context=READ))


def test_a_value_without_context_says_no_word_of_it_and_was_read_by_itself() -> None:
    value = encoded(chunk())
    length = HEADER.unpack_from(value)[5]
    described: dict[str, Any] = msgspec.msgpack.decode(value[ALIGN : ALIGN + length])
    assert list(described) == [
        "ids", "heads", "head_dim", "scheme", "dtype", "behind", "fingerprint", "variant", "created", "checks",
    ]  # fmt: skip
    context = parse(value).context
    assert (context.before, context.front, context.cci, context.tokens) == ((), "", 0.5, None)


@pytest.mark.parametrize(
    "change",
    [
        {"before": bytes(17)},
        {"before": bytes(16)},  # and two sums
        {"inter": bytes(12)},
        {"inter": np.array([1, -1], "<f4").tobytes()},
        {"inter": np.array([1, math.inf], "<f4").tobytes()},
        {"tokens": bytes(16)},
        {"tokens": np.full(5, math.nan, "<f4").tobytes()},
        {"front": bytes(3)},
        {"cci": math.nan},
        {"cci": 1.5},
    ],
)
def test_a_context_whose_parts_do_not_fit_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(BadCache):
        unpacked(msgspec.structs.replace(packed(READ), **change), 5)


@pytest.mark.parametrize(
    "change",
    [
        {"before": bytes(16 * MOST + 16)},
        {"inter": bytes(4 * MOST + 4)},
        {"cci": 0.1},
        {"cci": 1.0},
        {"front": bytes(17)},
    ],
)
def test_no_context_is_longer_or_other_than_its_type_allows(change: dict[str, Any]) -> None:
    raw = msgspec.to_builtins(packed(READ), builtin_types=(bytes,)) | change
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=PackedContext)


def test_a_context_of_too_many_chunks_is_not_stored() -> None:
    context = Context((A,) * (MOST + 1), (1.0,) * (MOST + 1), 0.5)
    with pytest.raises(ValueError, match=f"at most {MOST}"):
        encode(chunk(), "bf16", "f", "c0", context=context)
    longest = Context((A,) * MOST, (1.0,) * MOST, 0.5, front=FRONT)
    assert len(encode_entry(A, "f", "c0", longest, secret=b"s")) <= MOST_BYTES


# --- entries of the index ---


@pytest.mark.parametrize("secret", [b"", b"ours"])
def test_an_entry_comes_back(secret: bytes) -> None:
    value = encode_entry(A, "fp", "c2", READ, secret=secret)
    entry = parse_entry(value, secret=secret)
    assert (entry.chunk, entry.fingerprint, entry.variant) == (A, "fp", "c2")
    assert equal(entry.read(), READ, tokens=False)
    assert is_entry(value)
    assert not is_entry(encoded(chunk()))
    assert len(value) < 300


def test_every_byte_of_an_entry_counts() -> None:
    value = encode_entry(A, "fp", "c2", READ, secret=b"ours")
    for at in range(len(value)):
        for bit in (1, 128):
            flipped = bytearray(value)
            flipped[at] ^= bit
            with pytest.raises(BadCache):
                parse_entry(flipped, secret=b"ours")
    plain = encode_entry(A, "fp", "c2", READ)
    for at in range(len(plain)):
        with pytest.raises(BadCache):
            parse_entry(plain[:at])
        flipped = bytearray(plain)
        flipped[at] ^= 4
        with pytest.raises(BadCache):
            parse_entry(flipped)
    for other, secret in ((plain, b"ours"), (value, b"theirs"), (plain + b"x", b""), (bytes(MOST_BYTES + 1), b"")):
        with pytest.raises(BadCache):
            parse_entry(other, secret=secret)


@given(st.binary(max_size=200))
def test_no_bytes_are_believed(data: bytes) -> None:
    with pytest.raises(BadCache):
        parse_entry(data)
    with pytest.raises(BadCache):
        parse_entry(b"KVSI" + data)
