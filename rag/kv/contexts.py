"""A chunk's context as bytes, and back: names, sums and places that nothing trusts before they have been compared."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from rag.errors import BadCache
from rag.kv.craft import Context

MOST = 4096
"""Chunks before a chunk that a stored context may have."""
_NAME = 16
"""Bytes of a ``token_hash``."""
_FLOAT = 4


class PackedContext(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``Context`` in bytes: 16 a name, floats of 32 bits, little-endian. ``tokens`` may be left out."""

    before: Annotated[bytes, msgspec.Meta(max_length=_NAME * MOST)]
    inter: Annotated[bytes, msgspec.Meta(max_length=_FLOAT * MOST)]
    cci: Annotated[float, msgspec.Meta(ge=0.5, lt=1.0)]
    front: Annotated[bytes, msgspec.Meta(max_length=_NAME)]
    exact: bool
    tokens: bytes = b""
    through: Annotated[bytes, msgspec.Meta(max_length=_NAME * MOST)] = b""


def packed(context: Context, *, tokens: bool = True) -> PackedContext:
    """Raises ValueError for a context of more than MOST chunks, before it or through them."""
    if (most := max(len(context.before), len(context.through))) > MOST:
        raise ValueError(f"a chunk behind {most} others; a context is stored of at most {MOST}")
    kept = context.tokens if tokens and context.tokens is not None else np.zeros(0)
    return PackedContext(
        before=b"".join(map(bytes.fromhex, context.before)),
        through=b"".join(map(bytes.fromhex, context.through)),
        inter=np.asarray(context.inter, "<f4").tobytes(),
        cci=context.cci,
        front=bytes.fromhex(context.front),
        exact=context.exact,
        tokens=np.asarray(kept, "<f4").tobytes(),
    )


def unpacked(stored: PackedContext, tokens: int | None) -> Context:
    """The context of a chunk of so many tokens; None where it is stored without theirs. Raises BadCache.

    Sums come back as float32 holds them.
    """
    count, left = divmod(len(stored.before), _NAME)
    expected = (_FLOAT * count, _FLOAT * (tokens or 0))
    if (
        left
        or len(stored.through) % _NAME
        or (len(stored.inter), len(stored.tokens)) != expected
        or len(stored.front) not in (0, _NAME)
    ):
        raise BadCache("the lengths of a stored context do not fit each other")
    if not 0.5 <= stored.cci < 1.0:  # a NaN passes the bounds of its type
        raise BadCache(f"a stored context has an impact of {stored.cci}; it lies in [0.5, 1)")
    inter, each = np.frombuffer(stored.inter, "<f4"), np.frombuffer(stored.tokens, "<f4")
    for sums in (inter, each):
        if not (np.isfinite(sums).all() and (sums >= 0).all()):
            raise BadCache("a stored context has attention that is no sum of shares")
    return Context(
        _names(stored.before),
        tuple(map(float, inter)),
        stored.cci,
        None if tokens is None else each.astype(np.float32),
        stored.front.hex(),
        stored.exact,
        _names(stored.through),
    )


def _names(stored: bytes) -> tuple[str, ...]:
    return tuple(stored[at : at + _NAME].hex() for at in range(0, len(stored), _NAME))
