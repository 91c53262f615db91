"""Names of stored states: what was read, and everything that decides the bytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b

import msgspec

FORMAT = 1
"""Version of the stored bytes (rag.kv.layout); another one never meets these names."""
_VARIANT = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Everything beside the tokens that changes the bytes; one difference gives other names.

    weights    digest of the model's weights, or its id and revision
    config     ``canonical`` text of the configuration that matters: layers, heads, RoPE, norms, sliding windows
    tokenizer  digest of the tokenizer
    prefix     ``token_hash`` of the fixed tokens that stood before the chunk
    separator  what stands between chunks
    scheme     dtype of the states and how they are stored, as ``bfloat16/int8``
    tenant     a secret salt: without it nobody can tell whether somebody else's text is stored
    """

    weights: str
    config: str = ""
    tokenizer: str = ""
    prefix: str = ""
    separator: str = ""
    scheme: str = ""
    tenant: str = ""
    version: int = FORMAT

    @property
    def digest(self) -> str:
        """64 bits in hex."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return blake2b(canonical(parts).encode(), digest_size=8).hexdigest()

    def stored_as(self, scheme: str) -> Fingerprint:
        """The same for another way of storing."""
        return replace(self, scheme=scheme)


def canonical(parts: Mapping[str, object]) -> str:
    """JSON with sorted keys: one text for equal values, whatever their order. Raises TypeError for no JSON value."""
    return msgspec.json.encode(parts, order="deterministic").decode()


def token_bytes(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian 32-bit words. Raises ValueError for an id outside of them."""
    try:
        return struct.pack(f"<{len(ids)}I", *ids)
    except struct.error as error:
        raise ValueError(f"token ids lie between 0 and 2**32 - 1 ({error})") from None


def token_hash(ids: Sequence[int]) -> str:
    """128 bits in hex of the exact token ids; text is no key, as its tokens change at a chunk's borders."""
    return blake2b(token_bytes(ids), digest_size=16).hexdigest()


def fronts(rows: Iterable[Sequence[int]]) -> Iterator[str]:
    """Of each row the ``token_hash`` of all tokens of the rows before it; "" where there are none."""
    so_far, some = blake2b(digest_size=16), False
    for ids in rows:
        yield so_far.hexdigest() if some else ""
        so_far.update(token_bytes(ids))
        some = some or bool(ids)


def chunk_key(ids: Sequence[int], fingerprint: Fingerprint | str, variant: str = "0") -> str:
    """``kv1:{hash of the tokens}:fingerprint:variant``; the braces keep a chunk in one slot of a Redis Cluster.

    Raises ValueError for a chunk without tokens and for a variant that is no short word.
    """
    if not ids:
        raise ValueError("a chunk without tokens has no states; leave it out")
    if not _VARIANT.fullmatch(variant):
        raise ValueError(f"variant {variant!r}; take at most 32 letters, digits, - and _")
    digest = fingerprint if isinstance(fingerprint, str) else fingerprint.digest
    return f"{chunk_prefix(ids)}{digest}:{variant}"


def chunk_prefix(ids: Sequence[int]) -> str:
    """How every name of this chunk begins: all models, all tenants, all variants."""
    return f"kv{FORMAT}:{{{token_hash(ids)}}}:"
