"""What the index says of one slot: which chunk's variant stands there and behind what it was read, without its states.

header  16 bytes, little-endian: magic, version, flags, bytes of the body, crc32 of all before the seal (itself as zero)
body    MessagePack;  seal  HMAC-SHA256 of all of it, where a secret is given
"""

from __future__ import annotations

import hmac
import struct
import zlib
from typing import Annotated

import msgspec

from rag.errors import BadCache
from rag.kv.contexts import PackedContext, packed, unpacked
from rag.kv.craft import Context
from rag.kv.key import FORMAT
from rag.kv.store import Value

MAGIC = b"KVSI"
MOST_BYTES = 2**18
"""An entry of the longest context has half of it."""
_HEADER = struct.Struct("<4sHHII")
_CRC_AT = 12
_SEALED = 1
_SEAL_BYTES = 32
_Short = Annotated[str, msgspec.Meta(max_length=64)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """chunk: ``token_hash`` of its ids;  variant: its slot's name, as c0;  context: without what tokens attended."""

    chunk: _Short
    fingerprint: _Short
    variant: _Short
    context: PackedContext

    def read(self) -> Context:
        """Raises BadCache."""
        return unpacked(self.context, None)


def is_entry(value: Value) -> bool:
    """True for bytes that begin as an entry."""
    return bytes(value[:4]) == MAGIC


def encode_entry(chunk: str, fingerprint: str, variant: str, context: Context, *, secret: bytes = b"") -> bytes:
    """The value of an entry. Raises ValueError for a context that is too long to be stored."""
    entry = Entry(chunk=chunk, fingerprint=fingerprint, variant=variant, context=packed(context, tokens=False))
    body = msgspec.msgpack.encode(entry)
    value = bytearray(_HEADER.pack(MAGIC, FORMAT, _SEALED if secret else 0, len(body), 0) + body)
    struct.pack_into("<I", value, _CRC_AT, zlib.crc32(value))
    return bytes(value) + (hmac.digest(secret, value, "sha256") if secret else b"")


def parse_entry(value: Value, *, secret: bytes = b"") -> Entry:
    """Raises BadCache for everything that ``encode_entry`` does not write; with a secret, for what it did not seal."""
    if not _HEADER.size <= len(value) <= MOST_BYTES:
        raise BadCache(f"{len(value)} bytes are no entry of the index of variants")
    data = bytes(value)
    magic, version, flags, length, crc = _HEADER.unpack_from(data)
    if magic != MAGIC or version != FORMAT or flags & ~_SEALED:
        raise BadCache(f"an entry of variants of another format ({magic!r}, version {version}, flags {flags})")
    end = _HEADER.size + length
    if len(data) != end + (_SEAL_BYTES if flags & _SEALED else 0):
        raise BadCache(f"an entry of {end} bytes and its seal are {len(data)} bytes long")
    plain = data[:_CRC_AT] + bytes(4) + data[_CRC_AT + 4 : end]
    if zlib.crc32(plain) != crc:
        raise BadCache("an entry of the index of variants does not match its checksum")
    if secret and not (flags & _SEALED and hmac.compare_digest(hmac.digest(secret, data[:end], "sha256"), data[end:])):
        raise BadCache("an entry of the index of variants is not sealed with this secret")
    try:
        return msgspec.msgpack.decode(data[_HEADER.size : end], type=Entry)
    except msgspec.MsgspecError as error:
        raise BadCache(f"an entry of the index of variants describes itself as no other does ({error})") from None
