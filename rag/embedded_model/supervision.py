"""Attention that is taught: chosen heads are to pay attention from the query to the relevant passage.

The attention function is registered with transformers. Outputs come from the fused kernel; only the query's rows of
the chosen heads are computed a second time, in float32, for the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rag.embedded_model.batches import Taught

if TYPE_CHECKING:
    import torch

NAME = "kvasir-taught"
TINY = 1e-6
EACH_HEAD = 0.3
"""Weight of each head's own loss beside that of the heads' sum."""


class Watch:
    """The masses that the chosen heads' query rows pay to each passage, of one pass.

    heads  layer -> query heads;  masses  one (B, heads, P) float32 per layer: mean over rows, sum over a passage
    """

    def __init__(self, taught: Taught, heads: Mapping[int, tuple[int, ...]]) -> None:
        self.taught, self.heads = taught, heads
        self.masses: list[torch.Tensor] = []

    def read(self, layer: int, query: torch.Tensor, key: torch.Tensor, scaling: float) -> None:
        """query (B, Hq, T, d), key (B, Hkv, T, d); a row sees all keys up to its own."""
        import torch

        with torch.autocast(query.device.type, enabled=False):
            taught, heads = self.taught, list(self.heads[layer])
            group = query.shape[1] // key.shape[1]
            index = taught.rows[:, None, :, None].expand(-1, len(heads), -1, query.shape[3])
            asked = query[:, heads].gather(2, index).float() * scaling
            scores = asked @ key[:, [head // group for head in heads]].float().transpose(2, 3)
            later = torch.arange(key.shape[2], device=key.device) > taught.rows[:, None, :, None]
            weights = scores.masked_fill(later, float("-inf")).softmax(dim=-1)
            real = taught.real / taught.real.sum(dim=1, keepdim=True)
            mean = torch.einsum("bhrt,br->bht", weights, real)
            self.masses.append(_by_passage(mean, taught.spans))

    def loss(self) -> torch.Tensor:
        """Sum over the lists: cross-entropy of the passages' shares, of all heads together and of each alone."""
        import torch

        masses = torch.cat(self.masses, dim=1)
        together = _cross_entropy(masses.sum(dim=1, keepdim=True), self.taught)
        return (together[:, 0] + EACH_HEAD * _cross_entropy(masses, self.taught).mean(dim=1)).sum()

    def right(self) -> tuple[int, int]:
        """Lists whose relevant passage has the most mass, and lists that ask something."""
        import torch

        total = torch.cat(self.masses, dim=1).sum(dim=1).masked_fill(~self.taught.present, -1.0)
        hit = self.taught.relevant.gather(1, total.argmax(dim=1, keepdim=True))[:, 0] > 0
        asked = ~self.taught.empty
        return int((hit & asked).sum()), int(asked.sum())


def _by_passage(attention: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """(B, h, P): sums of (B, h, T) over spans (B, P, 2)."""
    import torch

    at = torch.arange(attention.shape[2], device=attention.device)
    inside = (at >= spans[:, :, :1]) & (at < spans[:, :, 1:])
    return attention @ inside.to(attention.dtype).transpose(1, 2)


def _cross_entropy(masses: torch.Tensor, taught: Taught) -> torch.Tensor:
    """(B, h) from masses (B, h, P): -log of the relevant passages' share.

    For an empty query the divergence of even shares from these, 0 where they are equal.
    """
    import torch

    present = taught.present[:, None, :]
    logs = (masses + TINY).log().masked_fill(~present, float("-inf")).log_softmax(dim=-1)
    wanted = logs.masked_fill(taught.relevant[:, None, :] == 0, float("-inf")).logsumexp(dim=-1)
    count = taught.present.sum(dim=-1, keepdim=True).float()
    even = logs.masked_fill(~present, 0.0).sum(dim=-1) / count + count.log()
    return -torch.where(taught.empty[:, None], even, wanted)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    watch: Watch | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention, or that of the mask (B, 1, T, T) bool; what ``watch`` wants is computed beside it."""
    import torch

    layer: int = module.layer_idx  # type: ignore[assignment]
    if watch is not None and layer in watch.heads:
        watch.read(layer, query, key, scaling or query.shape[-1] ** -0.5)
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling, is_causal=attention_mask is None, enable_gqa=True
    )
    return out.transpose(1, 2).contiguous(), None


def hidden_states(
    model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor | None = None, watch: Watch | None = None
) -> torch.Tensor:
    """(B, T, width) normed hidden states of ids (B, T) at positions 0, 1, ..."""
    import torch

    core: Any = model.model
    hidden: torch.Tensor = core.embed_tokens(ids)
    rope = core.rotary_emb(hidden, position_ids=torch.arange(ids.shape[1], device=ids.device)[None])
    for layer in core.layers:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rope, watch=watch)
    normed: torch.Tensor = core.norm(hidden)
    return normed


def teach(model: Any) -> None:
    """The model's attention function becomes this module's."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)
