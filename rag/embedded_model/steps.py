"""One optimizer step: losses of all batches, their gradients, and the update."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rag.embedded_model.batches import Batch, batches
from rag.embedded_model.examples import Example
from rag.embedded_model.supervision import Watch, hidden_states

if TYPE_CHECKING:
    import torch

ATTENTION = 2.0
"""Weight of the attention loss beside that of the next tokens."""
DECAY, BETAS, CLIP = 0.1, (0.9, 0.95), 1.0


@dataclass(slots=True)
class Figures:
    """What a step showed: sums over its examples, to be divided by the counts."""

    tokens: int = 0
    text_loss: float = 0.0
    attention_loss: float = 0.0
    queries: int = 0
    queries_right: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    gradient: float = 0.0

    def add(self, other: Figures) -> None:
        self.tokens += other.tokens
        self.text_loss += other.text_loss
        self.attention_loss += other.attention_loss
        self.queries += other.queries
        self.queries_right += other.queries_right
        self.kinds += other.kinds
        self.right += other.right
        self.gradient = other.gradient

    def shares(self, steps: int) -> dict[str, float]:
        """Means over steps, examples of a kind and queries."""
        found = {
            "loss": (self.text_loss + ATTENTION * self.attention_loss) / max(1, steps),
            "text_loss": self.text_loss / max(1, steps),
            "attention_loss": self.attention_loss / max(1, steps),
            "attention_accuracy": self.queries_right / max(1, self.queries),
            "gradient": self.gradient,
        }
        found |= {
            f"{kind}_accuracy" if kind != "attention" else "place_accuracy": self.right[kind] / count
            for kind, count in sorted(self.kinds.items())
            if kind not in ("plain", "likelihood")
        }
        return {name: round(value, 4) for name, value in found.items()}


def optimizer_of(model: torch.nn.Module) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, ICLR 2019) with weight decay on the layers' matrices alone."""
    import torch

    named = [(parameter.ndim >= 2 and "embed" not in name, parameter) for name, parameter in model.named_parameters()]
    matrices = [parameter for decays, parameter in named if decays]
    others = [parameter for decays, parameter in named if not decays]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=1e-8, fused=True)


def train_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    heads: Mapping[int, tuple[int, ...]],
    rate: float,
    *,
    device: str = "cpu",
    half: bool = False,
) -> Figures:
    """Update the weights once; ``half``: products in bfloat16."""
    import torch

    weight = sum(weight for example in examples for _, _, weight in example.targets)
    queries = sum(len(example.rows) for example in examples)
    figures = Figures()
    optimizer.zero_grad(set_to_none=True)
    for batch in batches(examples, device):
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=half):
            text, attention, seen = losses(model, batch, heads)
        loss = text / max(weight, 1e-9) + ATTENTION * attention / max(1, queries)
        loss.backward()  # type: ignore[no-untyped-call]
        seen.text_loss = text.item() / max(weight, 1e-9)
        seen.attention_loss = attention.item() / max(1, queries)
        figures.add(seen)
    figures.gradient = float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP))
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return figures


def losses(
    model: torch.nn.Module, batch: Batch, heads: Mapping[int, tuple[int, ...]]
) -> tuple[torch.Tensor, torch.Tensor, Figures]:
    """Weighted sum of the targets' losses, sum of the queries' attention losses, counts. Logits at targets only."""
    import torch

    watch = Watch(batch.taught, heads, batch.mask) if batch.taught is not None and batch.mask is not None else None
    hidden = hidden_states(model, batch.ids, batch.positions, batch.mask, watch)
    chosen = hidden.reshape(-1, hidden.shape[-1])[batch.at]
    logits = (chosen @ model.lm_head.weight.T).float()  # type: ignore[union-attr,operator]
    each = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    text = (each * batch.weights).sum()
    figures = Figures(tokens=batch.tokens, kinds=Counter(), right=Counter())
    hit = (logits.detach().argmax(dim=-1) == batch.targets).tolist()
    for kind, label in zip(batch.kinds, batch.labels, strict=True):
        if label >= 0:
            figures.kinds[kind] += 1
            figures.right[kind] += hit[label]
    if watch is None:
        return text, text.new_zeros(()), figures
    figures.queries_right, figures.queries = watch.right()
    return text, watch.loss(), figures
