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

    heads  layer -> query heads
    mask   (B, 1, T, T) bool, what each row sees
    masses  one (B, heads, Q, P) float32 per layer: mean over a query's rows, sum over a passage
    """

    def __init__(self, taught: Taught, heads: Mapping[int, tuple[int, ...]], mask: torch.Tensor) -> None:
        self.taught, self.heads = taught, heads
        self.masses: list[torch.Tensor] = []
        self._rows = taught.rows.flatten(1)
        self._hidden = ~mask[:, 0].gather(1, self._rows[:, :, None].expand(-1, -1, mask.shape[3]))

    def read(self, layer: int, query: torch.Tensor, key: torch.Tensor, scaling: float) -> None:
        """query (B, Hq, T, d), key (B, Hkv, T, d)."""
        import torch

        with torch.autocast(query.device.type, enabled=False):
            taught, heads = self.taught, list(self.heads[layer])
            group = query.shape[1] // key.shape[1]
            index = self._rows[:, None, :, None].expand(-1, len(heads), -1, query.shape[3])
            asked = query[:, heads].gather(2, index).float() * scaling
            scores = asked @ key[:, [head // group for head in heads]].float().transpose(2, 3)
            weights = scores.masked_fill(self._hidden[:, None], float("-inf")).softmax(dim=-1)
            real = taught.real / taught.real.sum(dim=2, keepdim=True).clamp(min=1)
            apart = weights.reshape(*weights.shape[:2], *taught.rows.shape[1:], -1)
            mean = torch.einsum("bhqrt,bqr->bhqt", apart, real)
            self.masses.append(_by_passage(mean, taught.spans))

    def loss(self) -> torch.Tensor:
        """Sum over the queries: divergence of the passages' shares, of all heads together and of each alone."""
        import torch

        masses = torch.cat(self.masses, dim=1)
        together = _divergence(masses.sum(dim=1, keepdim=True), self.taught)
        return together.sum() + EACH_HEAD * _divergence(masses, self.taught).mean(dim=1).sum()

    def right(self) -> tuple[int, int]:
        """Queries whose relevant passage has the most mass, and queries that ask something."""
        import torch

        total = torch.cat(self.masses, dim=1).sum(dim=1).masked_fill(~self.taught.present[:, None], -1.0)
        hit = self.taught.relevant.gather(2, total.argmax(dim=2, keepdim=True))[:, :, 0] > 0
        return int((hit & self.taught.asked).sum()), int(self.taught.asked.sum())


def _by_passage(attention: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """(B, h, Q, P): sums of (B, h, Q, T) over spans (B, P, 2)."""
    import torch

    at = torch.arange(attention.shape[3], device=attention.device)
    inside = (at >= spans[:, :, :1]) & (at < spans[:, :, 1:])
    return attention @ inside.to(attention.dtype).transpose(1, 2)[:, None]


def _divergence(masses: torch.Tensor, taught: Taught) -> torch.Tensor:
    """(B, h, Q): Kullback-Leibler divergence of the shares in masses (B, h, Q, P) from the wanted ones, >= 0."""
    import torch

    present = taught.present[:, None, None, :]
    logs = (masses + TINY).log().masked_fill(~present, float("-inf")).log_softmax(dim=-1)
    wanted = taught.wanted[:, None]
    found: torch.Tensor = (torch.xlogy(wanted, wanted) - wanted * logs.masked_fill(~present, 0.0)).sum(dim=-1)
    return found


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
    model: torch.nn.Module,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor | None = None,
    watch: Watch | None = None,
) -> torch.Tensor:
    """(B, T, width) normed hidden states of ids (B, T) at positions (B, T)."""
    core: Any = model.model
    hidden: torch.Tensor = core.embed_tokens(ids)
    rope = core.rotary_emb(hidden, position_ids=positions)
    for layer in core.layers:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rope, watch=watch)
    normed: torch.Tensor = core.norm(hidden)
    return normed


def teach(model: Any) -> None:
    """The model's attention function becomes this module's."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)
