"""Stored bytes as tensors, without a copy."""

from __future__ import annotations

import warnings

import torch

from rag.kv.store import Value

with warnings.catch_warnings():
    # torch has no read-only tensors and says so once a process, at the first one over bytes.
    warnings.simplefilter("ignore")
    torch.frombuffer(b"\0", dtype=torch.uint8)


def as_tensor(value: Value) -> torch.Tensor:
    """The bytes as (n,) uint8, a view."""
    return torch.frombuffer(value, dtype=torch.uint8)
