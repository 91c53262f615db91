"""Stored bytes: the same states come back, or none at all."""

from __future__ import annotations

import hmac
import struct
import zlib

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import BadCache
from rag.kv.key import FORMAT
from rag.kv.layout import ALIGN, HEADER, MAGIC, Description, encode, parse
from rag.kv.quantize import SCHEMES, Scheme
from rag.kv.states import ChunkStates
from tests.rag.kv.chunks import chunk, encoded, same

PLAIN: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@settings(max_examples=50, deadline=None)
@given(
    scheme=st.sampled_from(SCHEMES),
    dtype=st.sampled_from(list(PLAIN.values())),
    layers=st.integers(1, 4),
    heads=st.integers(1, 3),
    tokens=st.integers(1, 70),
    half_dim=st.integers(1, 9),
    behind=st.integers(0, 1000),
    secret=st.sampled_from([b"", b"k"]),
)
def test_states_come_back_in_every_shape(
    scheme: Scheme, dtype: torch.dtype, layers: int, heads: int, tokens: int, half_dim: int, behind: int, secret: bytes
) -> None:
    states = chunk(1, tokens, layers=layers, heads=heads, head_dim=2 * half_dim, dtype=dtype, behind=behind)
    value = encode(states, scheme, "f", "v", secret=secret, allow_int4=True)
    stored = parse(bytes(value), secret=secret)
    back = stored.read()
    assert (back.ids, back.behind, back.keys.dtype) == (states.ids, behind, dtype)
    assert back.keys.shape == back.values.shape == states.keys.shape
    assert (stored.description.fingerprint, stored.description.variant) == ("f", "v")
    holds_all = PLAIN.get(scheme) in (dtype, torch.float32)
    assert back.rounded == ("" if holds_all else scheme)
    if holds_all:
        assert same(back, states)
    else:
        assert (back.keys.float() - states.keys.float()).abs().max() < (0.5 if scheme == "int4" else 0.05)
    for layer in range(layers):
        keys, values = stored.read_layer(layer)
        assert torch.equal(keys, back.keys[layer])
        assert torch.equal(values, back.values[layer])


def test_the_payload_is_layer_major_keys_before_values_heads_before_tokens() -> None:
    states = chunk(1, 3, dtype=torch.float32)
    value = bytes(encode(states, "fp32", "f"))
    floats = 2 * 3 * 8  # heads * tokens * head_dim
    start = len(value) - 2 * 2 * floats * 4  # layers * (keys, values); 384 bytes a layer need no padding
    expected = torch.stack([states.keys, states.values], 1).flatten()
    assert torch.equal(torch.frombuffer(bytearray(value[start:]), dtype=torch.float32), expected)
    assert HEADER.unpack_from(value)[:5] == (MAGIC, FORMAT, 0, 3, 2)


@pytest.mark.parametrize("scheme", list(PLAIN))
def test_plain_states_are_views_of_the_value(scheme: Scheme) -> None:
    value = encode(chunk(1, 6, dtype=PLAIN[scheme]), scheme, "f")
    first = torch.frombuffer(value, dtype=torch.uint8).data_ptr()
    states = parse(value).read()
    for tensor in (states.keys, states.values, parse(value).read_layer(1)[0]):
        assert first < tensor.data_ptr() < first + len(value)


def test_a_layer_is_read_where_another_is_damaged() -> None:
    value = bytearray(encoded(chunk(1, 6)))
    value[-1] ^= 1
    stored = parse(value)
    stored.read_layer(0)
    with pytest.raises(BadCache, match=r"layer 1 .* checksum"):
        stored.read_layer(1)
    with pytest.raises(BadCache, match=r"layer 1 .* checksum"):
        stored.read()
    for layer in (-1, 2):
        with pytest.raises(IndexError):
            stored.read_layer(layer)


def test_a_value_takes_little_more_than_its_states() -> None:
    states = chunk(1, 64, layers=4, heads=2, head_dim=32)
    assert len(encode(states, "bf16", "f" * 16)) < states.nbytes + 1024
    assert len(encode(states, "int8", "f" * 16)) < 0.6 * states.nbytes
    assert len(encode(states, "int4", "f" * 16, allow_int4=True)) < 0.4 * states.nbytes


# --- what is not believed ---


@pytest.mark.parametrize("scheme", ["bf16", "int8"])
def test_every_flipped_bit_is_noticed(scheme: Scheme) -> None:
    value = bytes(encode(chunk(1, 2, layers=1, heads=1, head_dim=4), scheme, "f"))
    for bit in range(8 * len(value)):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadCache):
            parse(flipped).read()


def test_every_shorter_and_longer_value_is_noticed() -> None:
    value = encoded(chunk(1, 2, layers=1, heads=1, head_dim=4))
    for length in range(len(value)):
        with pytest.raises(BadCache):
            parse(value[:length])
    with pytest.raises(BadCache):
        parse(value + b"\0")


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_anything_else_is_no_chunk(data: bytes) -> None:
    for given_bytes in (data, HEADER.pack(MAGIC, FORMAT, 0, 1, 1, 10, ALIGN + len(data), 0) + data):
        with pytest.raises(BadCache):
            parse(given_bytes)


def test_a_value_of_another_format_is_told_apart() -> None:
    value = bytearray(encoded(chunk()))
    struct.pack_into("<H", value, 4, FORMAT + 1)
    with pytest.raises(BadCache, match=f"another format .* version {FORMAT + 1}"):
        parse(value)


def forged(tokens: int = 1, layers: int = 1, payload: int = 64, **changes: object) -> bytes:
    """A value with checksums that are right and a description that is not."""
    described: dict[str, object] = {
        "ids": bytes(4), "heads": 1, "head_dim": 4, "scheme": "bf16", "dtype": "bfloat16", "behind": 0,
        "fingerprint": "f", "variant": "0", "created": 0, "checks": struct.pack("<I", zlib.crc32(bytes(64))),
    }  # fmt: skip
    meta = msgspec.msgpack.encode({**described, **changes})
    start = -(-(ALIGN + len(meta)) // ALIGN) * ALIGN
    head = bytearray(HEADER.pack(MAGIC, FORMAT, 0, tokens, layers, len(meta), start + payload, 0) + meta)
    head += bytes(start - len(head))
    struct.pack_into("<I", head, 28, zlib.crc32(head))
    return bytes(head) + bytes(payload)


def test_a_forged_value_that_fits_is_read() -> None:
    assert parse(forged()).read().keys.shape == (1, 1, 1, 4)


@pytest.mark.parametrize(
    "forgery",
    [
        {"tokens": 2},
        {"tokens": 2**32 - 1},
        {"layers": 2},
        {"layers": 2**32 - 1},
        {"tokens": 0, "ids": b""},
        {"layers": 0, "checks": b""},
        {"payload": 128},
        {"heads": 0},
        {"heads": -1},
        {"heads": 2**20},
        {"heads": 2**62},
        {"head_dim": 2**20},
        {"head_dim": 3, "scheme": "int4"},
        {"scheme": "pickle"},
        {"dtype": "float64"},
        {"ids": b"\0"},
        {"ids": 7},
        {"checks": b""},
        {"behind": -1},
        {"extra": 1},
        {"variant": 7},
        {"context": b""},
        {"context": {"before": b""}},
    ],
)
def test_a_forged_value_whose_numbers_do_not_fit_is_refused(forgery: dict[str, int]) -> None:
    with pytest.raises(BadCache):
        parse(forged(**forgery))


def test_a_description_that_is_no_description_is_refused() -> None:
    fields = {field.name for field in msgspec.structs.fields(Description)}
    assert fields - {"context"} == set(
        msgspec.msgpack.decode(forged()[ALIGN : ALIGN + HEADER.unpack_from(forged())[5]])
    )


# --- the seal ---


def test_a_sealed_value_opens_with_its_secret_only() -> None:
    states = chunk()
    sealed, plain = encode(states, "bf16", "f", secret=b"one"), encode(states, "bf16", "f")
    assert same(parse(sealed, secret=b"one").read(), states)
    assert same(parse(sealed).read(), states)  # who has no secret cannot check, and reads
    for value in (sealed, plain):
        with pytest.raises(BadCache, match="not sealed with this secret"):
            parse(value, secret=b"other")


def test_a_sealed_value_with_new_checksums_is_noticed() -> None:
    """What whoever can write to the store could do."""
    sealed = encode(chunk(1, 4), "bf16", "f", secret=b"one")
    forged_value = bytearray(encode(chunk(2, 4), "bf16", "f", secret=b"guess"))
    forged_value[-32:] = sealed[-32:]
    with pytest.raises(BadCache, match="not sealed"):
        parse(forged_value, secret=b"one")
    assert sealed[-32:] == hmac.digest(b"one", bytes(sealed[:-32]), "sha256")


# --- what cannot be stored ---


def test_states_that_do_not_fit_their_tokens_are_refused() -> None:
    whole = chunk(1, 5)
    odd = [
        ChunkStates(whole.ids[:4], whole.keys, whole.values),
        ChunkStates(whole.ids, whole.keys, whole.values[:, :, :4]),
        ChunkStates(whole.ids, whole.keys[0], whole.values[0]),
        ChunkStates((), whole.keys[:, :, :0], whole.values[:, :, :0]),
        ChunkStates(whole.ids, whole.keys.double(), whole.values.double()),
        ChunkStates(whole.ids, whole.keys, whole.values.float()),
    ]
    for states in odd:
        with pytest.raises(ValueError, match="both are"):
            encode(states, "bf16", "f")


def test_int4_has_to_be_allowed() -> None:
    with pytest.raises(ValueError, match="int4 is not allowed"):
        encode(chunk(), "int4", "f")


def test_states_that_are_not_contiguous_are_stored_as_they_read() -> None:
    keys = torch.arange(2.0 * 5 * 2 * 16).reshape(2, 5, 2, 16).transpose(1, 2)[..., ::2]
    states = ChunkStates((1, 2, 3, 4, 5), keys, keys + 1)
    assert same(parse(encode(states, "fp32", "f")).read(), ChunkStates(states.ids, keys, keys + 1))
