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
EVERY = 4
"""Of a passage's tokens, which are asked for its label."""


@dataclass(frozen=True, slots=True)
class Batch:
    """B sequences, padded on the right.

    ids      (B, T) int64;  tokens  how many of them are real
    positions  (B, T) int64;  one row where all sequences have the same
    at       (n,) int64 places of targets in the flattened ids;  targets (n,) int64;  weights (n,) float
    mask     (B, 1, T, T) bool, None for a causal one
    marked   (m,) int64 places of passages' tokens in the flattened ids;  marks (m,) int64 their passages' label tokens
    kinds    of the examples;  labels  where each example's labels stand among the targets
    """

    ids: torch.Tensor
    positions: torch.Tensor
    tokens: int
    at: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    mask: torch.Tensor | None
    marked: torch.Tensor
    marks: torch.Tensor
    kinds: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]


def batches(examples: Sequence[Example], device: str = "cpu", most: int = MICRO_TOKENS) -> Iterator[Batch]:
    """The examples by kind and length in batches of at most ``most`` tokens each, or of one example."""
    ordered = sorted(examples, key=lambda each: (bool(each.spans), len(each.ids)))
    waiting: list[Example] = []
    for example in ordered:
        same = waiting and bool(waiting[0].spans) == bool(example.spans)
        if waiting and (not same or (len(waiting) + 1) * len(example.ids) > most):
            yield batch(waiting, device)
            waiting = []
        waiting.append(example)
    if waiting:
        yield batch(waiting, device)


def batch(examples: Sequence[Example], device: str = "cpu") -> Batch:
    """All of them in one batch; either all or none have spans."""
    import torch

    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), PAD, dtype=torch.long)
    positions = torch.arange(longest).repeat(len(examples), 1)
    at: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    labels: list[tuple[int, ...]] = []
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        for start, _ in example.rows[1:]:
            positions[row, start:] = torch.arange(longest - start) + example.rows[0][0]
        labels.append(tuple(len(at) + i for i, target in enumerate(example.targets) if target[2] == LABEL))
        at += [row * longest + place for place, _, _ in example.targets]
        targets += [token for _, token, _ in example.targets]
        weights += [weight for _, _, weight in example.targets]
    marked = [
        (row * longest + place, token)
        for row, example in enumerate(examples)
        for start, end, token in example.marks
        for place in range(start, min(end, len(example.ids)), EVERY)
    ]
    return Batch(
        ids.to(device),
        positions.to(device),
        sum(len(example.ids) for example in examples),
        torch.tensor(at, dtype=torch.long, device=device),
        torch.tensor(targets, dtype=torch.long, device=device),
        torch.tensor(weights, device=device),
        _mask(examples, longest).to(device) if examples[0].spans else None,
        torch.tensor([place for place, _ in marked], dtype=torch.long, device=device),
        torch.tensor([token for _, token in marked], dtype=torch.long, device=device),
        tuple(example.kind for example in examples),
        tuple(labels),
    )


def _mask(examples: Sequence[Example], longest: int) -> torch.Tensor:
    """Causal; a query sees the passages and itself; in blocks a passage sees the lead and itself alone.

    What lies between passages belongs to the one before it.
    """
    import torch

    block = torch.zeros(len(examples), longest, dtype=torch.long)
    for row, example in enumerate(examples):
        for number, (start, _) in enumerate(example.spans if example.blocks else (), start=1):
            block[row, start:] = number
        for number, (start, _) in enumerate(example.rows, start=1):
            block[row, start:] = -number
    seen, seer = block[:, None, :], block[:, :, None]
    allowed = (seen == seer) | (seen == 0) | ((seer < 0) & (seen > 0))
    return (allowed & torch.ones(longest, longest, dtype=torch.bool).tril())[:, None]
