"""Stored values looked at again: whether their bytes are sound, and whether the model still reads the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

from rag.errors import BadCache, CacheUnavailable
from rag.kv.cache import ChunkCache
from rag.kv.capture import read_chunks
from rag.kv.entries import parse_entry
from rag.kv.layout import parse
from rag.kv.library import ChunkLibrary
from rag.kv.slots import partner
from rag.kv.states import ChunkStates
from rag.kv.store import ChunkCacheStore, Value
from rag.runtime.meter import Meter

TOLERANCE = {"fp32": 1e-4, "bf16": 0.02, "fp16": 0.02, "int8": 0.05, "int4": 0.3}
"""|stored - read| / |read| at most, by scheme; states of another chunk differ by more than 1."""
ROUNDING = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05}
"""The same for the model's own dtype, whose rounding depends on what is read beside a chunk."""
_AT_ONCE = 16


@dataclass(slots=True)
class Audit:
    """What was found.

    values      looked at, of all models;  damaged  names whose bytes are not those that were written, and why
    variants    of the values that are sound, states with what they were read behind;  apart  variants without an entry
                of the index and entries without a variant: made room for something, and mended when asked for
    compared    values read again;  same  of them, to the last bit;  largest  relative difference of the others
    tolerance   at most that is right;  wrong  names that differ by more
    """

    values: int = 0
    variants: int = 0
    apart: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    compared: int = 0
    same: int = 0
    largest: float = 0.0
    tolerance: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.damaged and not self.wrong


def check_values(
    store: ChunkCacheStore, names: Iterable[str], secret: bytes, progress: Callable[[int], None] = lambda done: None
) -> Audit:
    """Every checksum of every value, and every variant's context. Raises CacheUnavailable as the store does."""
    found, slots = Audit(), set[str]()
    for name in names:
        value = store.get(name)
        if value is None:
            continue  # evicted meanwhile
        found.values += 1
        kind, _ = partner(name)
        slots.update([name] if kind else [])
        try:
            _check(name, value, secret)
            found.variants += kind == "c"
        except BadCache as error:
            found.damaged[name] = str(error)
        progress(found.values)
    found.apart = sum(partner(name)[1] not in slots for name in slots)
    return found


def _check(name: str, value: Value, secret: bytes) -> None:
    """Raises BadCache for a value that is not what was written, or no such value as its name says."""
    kind, other = partner(name)
    if kind == "i":
        entry = parse_entry(value, secret=secret)
        digest, fingerprint = name.split("}", 1)[0].rpartition("{")[2], name.split(":")[2]
        if (entry.chunk, entry.fingerprint, entry.variant) != (digest, fingerprint, other.rpartition(":")[2]):
            raise BadCache("an entry of the index of variants is of another chunk or model than its name says")
        entry.read()
        return
    stored = parse(value, secret=secret)
    for layer in range(stored.layers):
        stored.check(layer)
    if (stored.description.context is None) is (kind == "c"):
        raise BadCache("a stored chunk says behind what it was read where it must not, or does not where it must")


def compare(library: ChunkLibrary, names: Sequence[str], sample: int, seed: int, found: Audit) -> None:
    """Read a sample of this model's sound values again and note on ``found`` how they differ.

    Of passages as they were read by themselves: a variant names what it was read behind by hashes, and cannot be read
    again by it.
    """
    cache = library.cache
    if cache is None:
        raise CacheUnavailable("nothing is kept, so nothing can be compared")
    digest = cache.fingerprint.digest
    mine = sorted(name for name in names if name.endswith(f":{digest}:0") and name not in found.damaged)
    chosen = random.Random(seed).sample(mine, min(sample, len(mine)))  # noqa: S311 - a sample, no secret
    found.tolerance = TOLERANCE[cache.scheme]
    for at in range(0, len(chosen), _AT_ONCE):
        _compare(library, cache, chosen[at : at + _AT_ONCE], found)


def _compare(library: ChunkLibrary, cache: ChunkCache, names: Sequence[str], found: Audit) -> None:
    stored = [
        (name, parse(value, secret=cache.secret).read())
        for name, value in zip(names, cache.store.get_many(names), strict=True)
        if value is not None
    ]
    meter = Meter()
    prefix = library.beginning(library.lead, meter)[0]
    again = read_chunks(library.model, [states.ids for _, states in stored], meter, prefix=prefix)
    for (name, states), fresh in zip(stored, again, strict=True):
        found.tolerance = max(TOLERANCE[cache.scheme], ROUNDING.get(fresh.keys.dtype, 0.0))
        found.compared += 1
        if _same(states, cache.restored(fresh)):
            found.same += 1
            continue
        difference = max(_relative(states.keys, fresh.keys), _relative(states.values, fresh.values))
        found.largest = max(found.largest, difference)
        if not difference <= found.tolerance:
            found.wrong.append(name)


def _same(one: ChunkStates, other: ChunkStates) -> bool:
    return torch.equal(one.keys, other.keys) and torch.equal(one.values, other.values)


def _relative(stored: torch.Tensor, fresh: torch.Tensor) -> float:
    if stored.shape != fresh.shape:
        return float("inf")
    wanted = fresh.double()
    return float((stored.double() - wanted).norm() / wanted.norm().clamp(min=1e-30))
