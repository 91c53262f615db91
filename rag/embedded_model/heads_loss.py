"""What the taught heads are trained by: the teacher's shares of attention, and the teacher's vectors of the states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag.embedded_model.lower import Paid
from rag.embedded_model.topic_batch import TopicBatch

if TYPE_CHECKING:
    import torch

TINY = 1e-6
EACH_HEAD = 0.3
"""Weight of each head's own divergence beside that of the heads' sum."""
VECTORS = 2.0
"""Weight of the distance between states and the teacher's vectors."""


def heads_loss(paid: Paid, batch: TopicBatch, probe: torch.nn.Module, sharpness: torch.Tensor) -> torch.Tensor:
    """Means over queries, and over passages: divergence of the shares, and 1 - cosine of probed states to vectors.

    ``sharpness``  logarithm of the power that shares are compared in; it is learnt: what counts is the order
    """
    import torch

    power = sharpness.exp()
    together = divergence(paid.masses.sum(dim=1, keepdim=True), batch.wanted, power)[:, 0]
    apart = divergence(paid.masses, batch.wanted, power).mean(dim=1)
    loss = _mean(together + EACH_HEAD * apart, batch.present)
    alike = torch.nn.functional.cosine_similarity
    passages = 1 - alike(probe(paid.passages), batch.passage_vectors, dim=-1)
    queries = 1 - alike(probe(paid.queries), batch.query_vectors, dim=-1)
    read = batch.passage_vectors.abs().sum(dim=-1) > 0
    return loss + VECTORS * (_mean(passages, read) + _mean(queries, batch.taught))


def divergence(masses: torch.Tensor, wanted: torch.Tensor, power: torch.Tensor | float = 1.0) -> torch.Tensor:
    """(G, h, N): Kullback-Leibler divergence of the shares in masses^power (G, h, N, P) from the wanted (G, N, P)."""
    import torch

    wanted = wanted[:, None]
    out = wanted < 0
    shares = wanted.clamp(min=0)
    logs = (power * (masses + TINY).log()).masked_fill(out, -1e9).log_softmax(dim=-1)
    return (torch.xlogy(shares, shares) - (shares * logs).masked_fill(out, 0.0)).sum(dim=-1)


def right(paid: Paid, batch: TopicBatch) -> tuple[int, int]:
    """Queries whose wanted passage, of those compared, has the most attention; queries that the teacher has read."""
    total = paid.masses.sum(dim=1).masked_fill(batch.wanted < 0, -1.0)
    hit = total.argmax(dim=-1) == batch.wanted.argmax(dim=-1)
    return int((hit & batch.taught).sum()), int(batch.taught.sum())


def _mean(values: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return (values * of).sum() / of.sum().clamp(min=1)
