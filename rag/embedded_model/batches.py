"""Examples of like length and kind side by side, as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.embedded_model.examples import LABEL, Example

if TYPE_CHECKING:
    import torch

MICRO_TOKENS = 4096
"""Of a batch that is computed at once, padding counted."""
PAD = 2


@dataclass(frozen=True, slots=True)
class Taught:
    """What the attention loss needs of B attention lists of at most R query rows and P passages.

    rows      (B, R) int64 places of the query's rows, padded with 0;  real (B, R) float, 1 where a row is real
    spans     (B, P, 2) int64 [start, end) of passages, padded with empty ones
    relevant  (B, P) float, 1 at the relevant ones;  present (B, P) bool, True at real passages
    empty     (B,) bool, True where every passage is relevant: attention is to be even
    """

    rows: torch.Tensor
    real: torch.Tensor
    spans: torch.Tensor
    relevant: torch.Tensor
    present: torch.Tensor
    empty: torch.Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """B sequences, padded on the right.

    ids      (B, T) int64;  tokens  how many of them are real
    at       (n,) int64 places of targets in the flattened ids;  targets (n,) int64;  weights (n,) float
    mask     (B, 1, T, T) bool, None for a causal one
    kinds    of the examples;  labels  where each example's label stands among the targets, -1 where it has none
    """

    ids: torch.Tensor
    tokens: int
    at: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    mask: torch.Tensor | None
    taught: Taught | None
    kinds: tuple[str, ...]
    labels: tuple[int, ...]


def batches(examples: Sequence[Example], device: str = "cpu", most: int = MICRO_TOKENS) -> Iterator[Batch]:
    """The examples by kind and length in batches of at most ``most`` tokens each, or of one example."""
    ordered = sorted(examples, key=lambda each: (bool(each.spans), each.blocks, len(each.ids)))
    waiting: list[Example] = []
    for example in ordered:
        same = waiting and (bool(waiting[0].spans), waiting[0].blocks) == (bool(example.spans), example.blocks)
        if waiting and (not same or (len(waiting) + 1) * len(example.ids) > most):
            yield batch(waiting, device)
            waiting = []
        waiting.append(example)
    if waiting:
        yield batch(waiting, device)


def batch(examples: Sequence[Example], device: str = "cpu") -> Batch:
    """All of them in one batch; either all or none have spans, and all or none are read in blocks."""
    import torch

    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), PAD, dtype=torch.long)
    at: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    labels: list[int] = []
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        labels.append(next((len(at) + i for i, target in enumerate(example.targets) if target[2] == LABEL), -1))
        at += [row * longest + place for place, _, _ in example.targets]
        targets += [token for _, token, _ in example.targets]
        weights += [weight for _, _, weight in example.targets]
    return Batch(
        ids.to(device),
        sum(len(example.ids) for example in examples),
        torch.tensor(at, dtype=torch.long, device=device),
        torch.tensor(targets, dtype=torch.long, device=device),
        torch.tensor(weights, device=device),
        _block_mask(examples, longest).to(device) if examples[0].blocks else None,
        _taught(examples, device) if examples[0].spans else None,
        tuple(example.kind for example in examples),
        tuple(labels),
    )


def _block_mask(examples: Sequence[Example], longest: int) -> torch.Tensor:
    """Causal; a passage sees the lead and itself alone. What lies between passages belongs to the one before it."""
    import torch

    block = torch.zeros(len(examples), longest, dtype=torch.long)
    for row, example in enumerate(examples):
        for number, (start, _) in enumerate(example.spans, start=1):
            block[row, start:] = number
        block[row, example.rows[0] :] = -1
    same = block[:, :, None] == block[:, None, :]
    seen = same | (block == 0)[:, None, :] | (block == -1)[:, :, None]
    return (seen & torch.ones(longest, longest, dtype=torch.bool).tril())[:, None]


def _taught(examples: Sequence[Example], device: str) -> Taught:
    import torch

    most_rows = max(end - start for start, end in (example.rows for example in examples))
    most = max(len(example.spans) for example in examples)
    rows = torch.zeros(len(examples), most_rows, dtype=torch.long)
    real = torch.zeros(len(examples), most_rows)
    spans = torch.zeros(len(examples), most, 2, dtype=torch.long)
    relevant = torch.zeros(len(examples), most)
    present = torch.zeros(len(examples), most, dtype=torch.bool)
    empty = torch.zeros(len(examples), dtype=torch.bool)
    for at, example in enumerate(examples):
        start, end = example.rows
        rows[at, : end - start] = torch.arange(start, end)
        real[at, : end - start] = 1
        count = len(example.spans)
        spans[at, :count] = torch.tensor(example.spans)
        relevant[at, list(example.relevant)] = 1
        present[at, :count] = True
        empty[at] = len(example.relevant) == count
    return Taught(*(each.to(device) for each in (rows, real, spans, relevant, present, empty)))
