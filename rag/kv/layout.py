"""One chunk's states as one self-describing run of bytes, and back; nothing in it is ever executed or trusted.

header   64 bytes, little-endian: magic, version, flags, tokens, layers, bytes of the description, bytes of all,
         crc32 of everything before the payload (itself taken as zero)
description  MessagePack: token ids, shapes, scheme, dtype, fingerprint, one crc32 a layer, and of a variant its
         context; then zeros to a multiple of 64
payload  [layer][keys, values][parts of rag.kv.quantize], each layer a multiple of 64 bytes
seal     HMAC-SHA256 of all of it, where a secret is given
"""

from __future__ import annotations

import hmac
import math
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch

from rag.errors import BadCache
from rag.kv.buffers import as_tensor
from rag.kv.contexts import PackedContext, packed, unpacked
from rag.kv.craft import Context
from rag.kv.key import FORMAT, token_bytes
from rag.kv.quantize import Kind, Part, Scheme, Shape, parts, read, write
from rag.kv.states import ChunkStates
from rag.kv.store import Value

MAGIC = b"KVSR"
HEADER = struct.Struct("<4sHHIIIQI32x")
ALIGN = HEADER.size
SEALED = 1
SEAL_BYTES = 32
_CRC_AT = 28
_KINDS: tuple[Kind, Kind] = ("keys", "values")
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_HOLDING: dict[str, tuple[Scheme, ...]] = {
    "bfloat16": ("bf16", "fp32"),
    "float16": ("fp16", "fp32"),
    "float32": ("fp32",),
}
"""Schemes that lose nothing of a dtype."""
_Size = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**32)]


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What the payload is. ``checks`` are crc32s, one a layer; ``created`` is in seconds since 1970.

    Without a ``context`` there is no word of it: such values are what they were before there were contexts, to the
    byte, and the version is the same.
    """

    ids: bytes
    heads: _Size
    head_dim: _Size
    scheme: Scheme
    dtype: Literal["bfloat16", "float16", "float32"]
    behind: _Count
    fingerprint: str
    variant: str
    created: int
    checks: bytes
    context: PackedContext | None = None


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A value whose outside has been checked; a layer is checked when it is read."""

    value: memoryview
    description: Description
    layers: int
    tokens: int
    start: int
    stride: int

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(np.frombuffer(self.description.ids, "<u4").tolist())

    @property
    def context(self) -> Context:
        """Behind what it was read; that of a chunk read by itself where the value says nothing."""
        stored = self.description.context
        return Context() if stored is None else unpacked(stored, self.tokens)

    @property
    def rounded(self) -> str:
        """The scheme, where it cannot hold every number of the states' own dtype; "" where nothing was lost."""
        described = self.description
        return described.scheme if rounds(described.scheme, described.dtype) else ""

    def read(self) -> ChunkStates:
        """All layers, checked. Tensors are views of the value where it holds plain states; do not write to them."""
        for layer in range(self.layers):
            self.check(layer)
        keys, values = self._read(0, self.layers)
        return ChunkStates(self.ids, keys, values, self.description.behind, self.rounded)

    def read_layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer, (heads, tokens, head_dim); no other layer is touched."""
        self.check(layer)
        keys, values = self._read(layer, 1)
        return keys[0], values[0]

    def check(self, layer: int) -> None:
        """Raises BadCache where the layer's bytes are not those that were written, IndexError for no layer."""
        if not 0 <= layer < self.layers:
            raise IndexError(f"layer {layer} of {self.layers}")
        at = self.start + layer * self.stride
        (expected,) = struct.unpack_from("<I", self.description.checks, 4 * layer)
        if zlib.crc32(self.value[at : at + self.stride]) != expected:
            raise BadCache(f"layer {layer} of a stored chunk does not match its checksum")

    def _read(self, layer: int, count: int) -> list[torch.Tensor]:
        scheme, dtype = self.description.scheme, _DTYPES[self.description.dtype]
        shape = Shape(self.description.heads, self.tokens, self.description.head_dim)
        at = self.start + layer * self.stride
        payload = self.value[at : at + count * self.stride]
        views = _views(payload, count, self.stride, scheme, shape)
        return [read(scheme, kind, views[kind], dtype) for kind in _KINDS]


def rounds(scheme: Scheme, dtype: str) -> bool:
    """True where the scheme cannot hold every number of a dtype, as float32."""
    return scheme not in _HOLDING[dtype]


def encode(
    states: ChunkStates,
    scheme: Scheme,
    fingerprint: str,
    variant: str = "0",
    *,
    secret: bytes = b"",
    allow_int4: bool = False,
    context: Context | None = None,
) -> bytearray:
    """The value of these states, and of the context of a variant, written into one buffer. ``secret`` seals it.

    Raises ValueError for states that are not what they say, that are not finite, or that the scheme cannot hold, and
    for int4 without ``allow_int4``: keys of some models collapse in 4 bits (Qwen2-7B), measure first.
    """
    if scheme == "int4" and not allow_int4:
        raise ValueError("int4 is not allowed for this model before it has been measured; store int8")
    layers, shape, dtype = _measured(states)
    stride = _stride(scheme, shape)
    description = Description(
        ids=token_bytes(states.ids),
        heads=shape.heads,
        head_dim=shape.head_dim,
        scheme=scheme,
        dtype=dtype,
        behind=states.behind,
        fingerprint=fingerprint,
        variant=variant,
        created=int(time.time()),
        checks=bytes(4 * layers),
        context=None if context is None else packed(context),
    )
    length = len(msgspec.msgpack.encode(description))
    start = _aligned(ALIGN + length)
    end = start + layers * stride
    total = end + (SEAL_BYTES if secret else 0)
    value = bytearray(total)
    view = memoryview(value)
    views = _views(view[start:end], layers, stride, scheme, shape)
    for kind, tensor in zip(_KINDS, (states.keys, states.values), strict=True):
        write(scheme, kind, tensor, views[kind])
    crcs = [zlib.crc32(view[at : at + stride]) for at in range(start, end, stride)]
    described = msgspec.structs.replace(description, checks=struct.pack(f"<{layers}I", *crcs))
    view[ALIGN : ALIGN + length] = msgspec.msgpack.encode(described)
    flags = SEALED if secret else 0
    HEADER.pack_into(value, 0, MAGIC, FORMAT, flags, shape.tokens, layers, length, total, 0)
    struct.pack_into("<I", value, _CRC_AT, zlib.crc32(view[:start]))
    if secret:
        view[end:] = hmac.digest(secret, view[:end], "sha256")
    return value


def parse(value: Value, *, secret: bytes = b"") -> StoredChunk:
    """The value, its outside checked. Raises BadCache for everything that ``encode`` does not write.

    No length is believed before it has been compared with what is there. With a secret, only values sealed with it
    are taken, and the seal covers every byte.
    """
    view = memoryview(value).cast("B") if not isinstance(value, memoryview) else value
    if len(view) < ALIGN:
        raise BadCache(f"{len(view)} bytes are no stored chunk")
    magic, version, flags, tokens, layers, length, total, crc = HEADER.unpack_from(view)
    if magic != MAGIC or version != FORMAT or flags & ~SEALED:
        raise BadCache(f"a stored chunk of another format ({magic!r}, version {version}, flags {flags})")
    start = _aligned(ALIGN + length)
    end = total - (SEAL_BYTES if flags & SEALED else 0)
    if total != len(view) or not start < end:
        raise BadCache(f"a stored chunk of {total} bytes is {len(view)} bytes long")
    outside = bytearray(view[:start])
    outside[_CRC_AT : _CRC_AT + 4] = bytes(4)
    if zlib.crc32(outside) != crc:
        raise BadCache("the head of a stored chunk does not match its checksum")
    if secret and not (flags & SEALED and hmac.compare_digest(hmac.digest(secret, view[:end], "sha256"), view[end:])):
        raise BadCache("a stored chunk is not sealed with this secret")
    try:
        described = msgspec.msgpack.decode(view[ALIGN : ALIGN + length], type=Description)
        stride = _stride(described.scheme, Shape(described.heads, tokens, described.head_dim))
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadCache(f"a stored chunk describes itself as no other does ({error})") from None
    consistent = len(described.ids) == 4 * tokens and len(described.checks) == 4 * layers
    if not (tokens and layers and consistent and end - start == layers * stride):
        raise BadCache("a stored chunk's lengths do not fit each other")
    if described.context is not None:
        unpacked(described.context, tokens)
    return StoredChunk(view, described, layers, tokens, start, stride)


def _measured(states: ChunkStates) -> tuple[int, Shape, Literal["bfloat16", "float16", "float32"]]:
    """Layers, the shape of one, and the name of the dtype."""
    shape, dtype = states.keys.shape, states.keys.dtype
    if len(shape) != 4 or states.values.shape != shape or shape[2] != len(states.ids) or 0 in shape:
        raise ValueError(
            f"keys {tuple(shape)} and values {tuple(states.values.shape)} of {len(states.ids)} tokens; "
            "both are (layers, heads, tokens, head_dim), none of them 0"
        )
    names: dict[torch.dtype, Literal["bfloat16", "float16", "float32"]] = {
        torch.bfloat16: "bfloat16",
        torch.float16: "float16",
        torch.float32: "float32",
    }
    if dtype not in names or states.values.dtype != dtype:
        raise ValueError(f"keys of {dtype} and values of {states.values.dtype}; both are one of {', '.join(_DTYPES)}")
    return shape[0], Shape(shape[1], shape[2], shape[3]), names[dtype]


def _placed(scheme: Scheme, shape: Shape) -> Iterator[tuple[Kind, Part, int, int]]:
    """Every part of a layer with its place and its bytes."""
    at = 0
    for kind in _KINDS:
        for part in parts(scheme, kind, shape):
            size = part.dtype.itemsize * math.prod(part.shape)
            yield kind, part, at, size
            at += -(-size // 4) * 4


def _stride(scheme: Scheme, shape: Shape) -> int:
    """Bytes of one layer."""
    *_, (_, _, at, size) = _placed(scheme, shape)
    return _aligned(at + size)


def _views(
    payload: memoryview, layers: int, stride: int, scheme: Scheme, shape: Shape
) -> dict[Kind, dict[str, torch.Tensor]]:
    """The parts of all layers, (layers, *part.shape) each, as views of the bytes."""
    views: dict[Kind, dict[str, torch.Tensor]] = {"keys": {}, "values": {}}
    flat = as_tensor(payload)
    for kind, part, at, _ in _placed(scheme, shape):
        width = part.dtype.itemsize
        inner = torch.empty(part.shape, device="meta").stride()
        elements = flat.view(part.dtype)
        views[kind][part.name] = elements.as_strided((layers, *part.shape), (stride // width, *inner), at // width)
    return views


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
