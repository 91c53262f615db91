"""Values in pieces a Redis server keeps well: up to 4 MiB - 64, its allocator's size class without slack.

A larger value is a first piece under its own name, which says what the others are, and the others under ``name:s1``
... ``name:sN``. Every piece carries the content id of one writing, so that pieces of two never make one value.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import numpy as np

from rag.errors import BadCache
from rag.kv.store import Value

PIECE_BYTES = 4 * 2**20 - 64
MAX_PIECES = 128
"""Larger values are refused: 512 MiB is what one chunk of 4096 tokens of an 8B model takes."""
_MAGIC = b"KVSG"
_HEAD = struct.Struct("<4sHHQ16s")


def split(value: Value, piece_bytes: int = PIECE_BYTES) -> list[bytes | memoryview]:
    """The pieces in order; one, the value itself, where it is small enough. Raises ValueError for too large a value."""
    if len(value) <= piece_bytes:
        return [memoryview(value)]
    body = piece_bytes - _HEAD.size
    count = -(-len(value) // body)
    if count > MAX_PIECES:
        raise ValueError(f"a value of {len(value)} bytes; at most {MAX_PIECES * body} are stored in pieces")
    content, view = os.urandom(16), memoryview(value)
    return [
        b"".join((_HEAD.pack(_MAGIC, place, count, len(value), content), view[place * body : (place + 1) * body]))
        for place in range(count)
    ]


def names(key: str, count: int = MAX_PIECES) -> list[str]:
    """Where the pieces behind the first stand."""
    return [f"{key}:s{place}" for place in range(1, count)]


def pieces_of(first: Value) -> int:
    """How many pieces there are, by the first: 1 for a value in one piece. Raises BadCache for a broken first piece."""
    if bytes(first[:4]) != _MAGIC:
        return 1
    place, count, _, _ = _head(first)
    if place or not 2 <= count <= MAX_PIECES:
        raise BadCache(f"piece {place} of {count} stands where the first is")
    return count


def join(pieces: Sequence[Value | None]) -> memoryview:
    """The value, one copy of its bytes. Raises BadCache where a piece is missing, or of another writing."""
    there = [piece for piece in pieces if piece is not None]
    if len(there) < len(pieces):
        raise BadCache(f"{len(pieces) - len(there)} of {len(pieces)} pieces are gone")
    heads = [_head(piece) for piece in there]
    _, count, total, content = heads[0]
    expected = [(place, count, total, content) for place in range(len(there))]
    if heads != expected or count != len(there) or sum(map(len, there)) - count * _HEAD.size != total:
        raise BadCache("the pieces of a stored chunk do not fit each other")
    value = np.empty(total, np.uint8).data
    at = 0
    for piece in there:
        body = memoryview(piece)[_HEAD.size :]
        value[at : at + len(body)] = body
        at += len(body)
    return value.toreadonly()


def is_piece(name: str) -> bool:
    """True for the name of a piece behind the first."""
    return name.count(":") > 3


def _head(piece: Value) -> tuple[int, int, int, bytes]:
    if len(piece) < _HEAD.size:
        raise BadCache(f"{len(piece)} bytes are no piece of a stored chunk")
    magic, place, count, total, content = _HEAD.unpack_from(piece)
    if magic != _MAGIC:
        raise BadCache("a piece of a stored chunk does not begin as one")
    return place, count, total, content
