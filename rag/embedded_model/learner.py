"""The model and what it is trained with: what is thrown away in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

SHARPNESS = 3.0


class Learner(torch.nn.Module):
    """model  a causal language model of the given width

    probe   states to the teacher's vectors, of ``dimension``
    labels  states to the embedding of their passage's label, one of ``tokens``, ascending
    sharpness  logarithm of the power in which shares of attention are compared
    """

    tokens: torch.Tensor

    def __init__(self, model: Any, width: int, dimension: int, tokens: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.probe = torch.nn.Linear(width, dimension)
        self.labels = torch.nn.Linear(width, width, bias=False)
        self.sharpness = torch.nn.Parameter(torch.tensor(SHARPNESS).log())
        self.register_buffer("tokens", torch.tensor(tokens), persistent=False)
