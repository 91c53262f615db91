"""One optimizer step: losses of topics and of texts, their gradients, and the update."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rag.embedded_model.architecture import Shape
from rag.embedded_model.batches import EVERY, Batch, batches
from rag.embedded_model.examples import Example
from rag.embedded_model.forward import hidden_states
from rag.embedded_model.heads_loss import heads_loss, right
from rag.embedded_model.learner import Learner
from rag.embedded_model.lower import paid
from rag.embedded_model.topic_batch import TopicBatch

if TYPE_CHECKING:
    import torch

MARKS = 0.5
"""Weight of the marks' loss beside that of the next tokens."""
DECAY, BETAS, CLIP = 0.05, (0.9, 0.95), 1.0
EMBEDDINGS, LOWER, UPPER, PROBE = "embeddings", "lower", "upper", "probe"
"""Parts of the model that learn at their own rates: lower are the layers that taught heads depend on."""


@dataclass(slots=True)
class Figures:
    """What a step showed: sums over its examples, to be divided by the counts."""

    tokens: int = 0
    text_loss: float = 0.0
    heads_loss: float = 0.0
    queries: int = 0
    queries_right: int = 0
    marks: int = 0
    marks_right: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    gradient: float = 0.0

    def add(self, other: Figures) -> None:
        self.tokens += other.tokens
        self.text_loss += other.text_loss
        self.heads_loss += other.heads_loss
        self.queries += other.queries
        self.queries_right += other.queries_right
        self.marks += other.marks
        self.marks_right += other.marks_right
        self.kinds += other.kinds
        self.right += other.right
        self.gradient = other.gradient

    def shares(self, steps: int) -> dict[str, float]:
        """Means over steps, examples of a kind and queries."""
        found = {
            "text_loss": self.text_loss / max(1, steps),
            "heads_loss": self.heads_loss / max(1, steps),
            "heads_accuracy": self.queries_right / max(1, self.queries),
            "marks_accuracy": self.marks_right / max(1, self.marks),
            "gradient": self.gradient,
        }
        found |= {
            f"{kind}_accuracy" if kind != "attention" else "place_accuracy": self.right[kind] / count
            for kind, count in sorted(self.kinds.items())
            if kind not in ("plain", "likelihood")
        }
        return {name: round(value, 4) for name, value in found.items()}


def optimizer_of(learner: torch.nn.Module, shape: Shape) -> torch.optim.AdamW:
    """AdamW over the ``model`` and ``probe`` of a learner; each group's ``part`` says whose rate it learns at."""
    import torch

    groups: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        part = _part(name, max(shape.by_layer))
        groups.setdefault((part, parameter.ndim >= 2 and part != EMBEDDINGS), []).append(parameter)
    made = [
        {"params": parameters, "weight_decay": DECAY if decays else 0.0, "part": part}
        for (part, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(made, lr=0.0, betas=BETAS, eps=1e-8, fused=True)


def _part(name: str, last: int) -> str:
    if name.startswith(("probe", "labels", "sharpness")):
        return PROBE
    if "embed" in name:
        return EMBEDDINGS
    if "layers." not in name:
        return UPPER
    number = int(name.split("layers.")[1].split(".")[0])
    asks = number == last and ("q_proj" in name or "k_proj" in name or "input_layernorm" in name)
    return LOWER if number < last or asks else UPPER


def train_step(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    shape: Shape,
    topics: TopicBatch,
    examples: Sequence[Example],
    rates: Mapping[str, float],
    *,
    device: str = "cpu",
    half: bool = False,
) -> Figures:
    """Update the weights of the learner's ``model`` and ``probe`` once; ``half``: products in bfloat16.

    The loss is the topics' and that of the examples' targets.
    """
    import torch

    marked = max(1, sum(len(range(a, b, EVERY)) for example in examples for a, b, _ in example.marks))
    weight = max(sum(weight for example in examples for _, _, weight in example.targets), 1e-9)
    figures = Figures()
    optimizer.zero_grad(set_to_none=True)
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=half):
        found = paid(learner.model, shape, topics)
    loss = heads_loss(found, topics, learner.probe, learner.sharpness)
    loss.backward()  # type: ignore[no-untyped-call]
    hit, of = right(found, topics)
    figures.add(Figures(tokens=topics.tokens, heads_loss=loss.item(), queries_right=hit, queries=of))
    for batch in batches(examples, device):
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=half):
            text, marks, seen = text_loss(learner, batch, shape)
        (text / weight + MARKS * marks / marked).backward()  # type: ignore[no-untyped-call]
        seen.text_loss = text.item() / weight
        figures.add(seen)
    figures.gradient = float(torch.nn.utils.clip_grad_norm_(learner.parameters(), CLIP))
    for group in optimizer.param_groups:
        group["lr"] = rates[group["part"]]
    optimizer.step()
    return figures


def text_loss(learner: Learner, batch: Batch, shape: Shape) -> tuple[torch.Tensor, torch.Tensor, Figures]:
    """Weighted sum of the targets' losses, sum of the marks' losses, and counts. Logits at targets only.

    A mark is the label of the passage that a token belongs to. States below the last taught layer are to tell it, so
    that attention to a passage brings its label along.
    """
    import torch

    model: Any = learner.model
    hidden, under = hidden_states(model, batch.ids, batch.positions, batch.mask, max(shape.by_layer))
    chosen = hidden.reshape(-1, hidden.shape[-1])[batch.at]
    logits = (chosen @ model.lm_head.weight.T).float()
    each = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    figures = Figures(tokens=batch.tokens)
    hit = (logits.detach().argmax(dim=-1) == batch.targets).tolist()
    for kind, labels in zip(batch.kinds, batch.labels, strict=True):
        figures.kinds[kind] += len(labels)
        figures.right[kind] += sum(hit[label] for label in labels)
    told = learner.labels(under.reshape(-1, under.shape[-1])[batch.marked]).float()
    known = learner.tokens
    found = told @ model.model.embed_tokens.weight[known].T.float() / shape.width**0.5
    wanted = torch.searchsorted(known, batch.marks)
    marks = torch.nn.functional.cross_entropy(found, wanted, reduction="sum")
    figures.marks, figures.marks_right = len(wanted), int((found.detach().argmax(dim=-1) == wanted).sum())
    return (each * batch.weights).sum(), marks, figures
