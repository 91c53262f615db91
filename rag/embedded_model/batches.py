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
    """What the attention loss needs of B attention lists of at most Q queries, R rows of a query and P passages.

    rows      (B, Q, R) int64 places of the queries' rows, padded with 0;  real (B, Q, R) float, 1 where a row is real
    spans     (B, P, 2) int64 [start, end) of passages, padded with empty ones
    wanted    (B, Q, P) float, each passage's share of the attention; they add up to 1, or 0 where there is no query
    relevant  (B, Q, P) float, 1 at the relevant ones;  present (B, P) bool, True at real passages
    asked     (B, Q) bool, True where a query asks for less than all passages
    """

    rows: torch.Tensor
    real: torch.Tensor
    spans: torch.Tensor
    wanted: torch.Tensor
    relevant: torch.Tensor
    present: torch.Tensor
    asked: torch.Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """B sequences, padded on the right.

    ids      (B, T) int64;  tokens  how many of them are real
    positions  (B, T) int64;  one row where all sequences have the same
    at       (n,) int64 places of targets in the flattened ids;  targets (n,) int64;  weights (n,) float
    mask     (B, 1, T, T) bool, None for a causal one
    taught   None where there are no lists
    kinds    of the examples;  labels  where each example's label stands among the targets, -1 where it has none
    """

    ids: torch.Tensor
    positions: torch.Tensor
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
    labels: list[int] = []
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        for start, _ in example.rows[1:]:
            positions[row, start:] = torch.arange(longest - start) + example.rows[0][0]
        labels.append(next((len(at) + i for i, target in enumerate(example.targets) if target[2] == LABEL), -1))
        at += [row * longest + place for place, _, _ in example.targets]
        targets += [token for _, token, _ in example.targets]
        weights += [weight for _, _, weight in example.targets]
    return Batch(
        ids.to(device),
        positions.to(device),
        sum(len(example.ids) for example in examples),
        torch.tensor(at, dtype=torch.long, device=device),
        torch.tensor(targets, dtype=torch.long, device=device),
        torch.tensor(weights, device=device),
        _mask(examples, longest).to(device) if examples[0].spans else None,
        _taught(examples, device) if examples[0].spans else None,
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


def _taught(examples: Sequence[Example], device: str) -> Taught:
    import torch

    queries = max(len(example.rows) for example in examples)
    most_rows = max(end - start for example in examples for start, end in example.rows)
    most = max(len(example.spans) for example in examples)
    rows = torch.zeros(len(examples), queries, most_rows, dtype=torch.long)
    real = torch.zeros(len(examples), queries, most_rows)
    spans = torch.zeros(len(examples), most, 2, dtype=torch.long)
    wanted, relevant = torch.zeros(2, len(examples), queries, most)
    present = torch.zeros(len(examples), most, dtype=torch.bool)
    asked = torch.zeros(len(examples), queries, dtype=torch.bool)
    for at, example in enumerate(examples):
        count = len(example.spans)
        spans[at, :count] = torch.tensor(example.spans)
        present[at, :count] = True
        for query, (start, end) in enumerate(example.rows):
            rows[at, query, : end - start] = torch.arange(start, end)
            real[at, query, : end - start] = 1
            relevant[at, query, list(example.relevant[query])] = 1
            wanted[at, query] = relevant[at, query] / len(example.relevant[query])
            if example.wanted:
                wanted[at, query, :count] = torch.tensor(example.wanted[query])
            asked[at, query] = len(example.relevant[query]) < count
    return Taught(*(each.to(device) for each in (rows, real, spans, wanted, relevant, present, asked)))
