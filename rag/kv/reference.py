"""The same weights in transformers' own eager attention: what composition must agree with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel
    from rag.runtime.keyvalues import KeyValues

States = list["tuple[torch.Tensor, torch.Tensor]"]
"""Rotated keys and values of every layer, (1, kv_heads, tokens, head_dim)."""
MERGED = "kvasir-merged"


class Reference:
    """A copy of the model's modules on its own weights. For whoever has the model to himself."""

    def __init__(self, model: LanguageModel) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(MERGED, _merged)
        shared = {id(t): t for t in (*model.model.parameters(), *model.model.buffers())}
        self._model: Any = copy.deepcopy(model.model, shared)
        self._device = model.model.device

    def logits(self, ids: Sequence[int], **how: Any) -> torch.Tensor:
        """(ids, vocabulary) float32 of one plain forward."""
        found: torch.Tensor = self._forward(ids, **how).logits[0].float()
        return found

    def states(self, ids: Sequence[int], **how: Any) -> States:
        return [(layer.keys, layer.values) for layer in self._forward(ids, **how).past_key_values.layers]

    def logits_behind(self, parts: Sequence[States], ids: Sequence[int]) -> torch.Tensor:
        """(ids, vocabulary) float32 behind states that stand one behind the other."""
        import torch

        layers = zip(*parts, strict=True)
        joined = [tuple(torch.cat(tensors, dim=2) for tensors in zip(*layer, strict=True)) for layer in layers]
        found: torch.Tensor = self._forward(ids, known=joined).logits[0].float()
        return found

    def turned(self, keys: torch.Tensor, by: int) -> torch.Tensor:
        """Rotated keys moved by a number of positions, in float64: unit rotations of the pairs (i, i + d / 2)."""
        import torch

        angle = (by * self._model.model.rotary_emb.inv_freq.double()).to(keys.device)
        first, second = keys.double().chunk(2, dim=-1)
        cos, sin = angle.cos(), angle.sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(keys.dtype)

    def _forward(
        self,
        ids: Sequence[int],
        *,
        mask: torch.Tensor | None = None,
        positions: Sequence[int] | None = None,
        merged: tuple[int, int, float, float] | None = None,
        known: Any = None,
        attention: str = "eager",
    ) -> Any:
        """``mask`` (ids, ids) bool, true where a row sees a column; causal without one."""
        import torch
        from transformers import DynamicCache

        self._model.set_attn_implementation(MERGED if merged else attention)
        how: dict[str, Any] = {"merged": merged} if merged else {}
        if mask is not None:
            hidden = torch.zeros(mask.shape, dtype=self._model.dtype, device=self._device)
            hidden.masked_fill_(~mask.to(self._device), torch.finfo(self._model.dtype).min)
            how["attention_mask"] = hidden[None, None]
        if positions is not None:
            how["position_ids"] = torch.tensor([list(positions)], device=self._device)
        if known is not None:
            how["past_key_values"] = DynamicCache(ddp_cache_data=known)
        with torch.inference_mode():
            return self._model(torch.tensor([list(ids)], device=self._device), use_cache=True, **how)

    def greedy(self, ids: Sequence[int], count: int, known: KeyValues | None = None) -> tuple[list[int], torch.Tensor]:
        """The next ``count`` tokens by ``generate``, and their logits (count, vocabulary); ``known`` is its cache."""
        import torch
        from transformers import DynamicCache, GenerationConfig

        self._model.set_attn_implementation("eager")
        cache = DynamicCache(ddp_cache_data=stored(known)) if known is not None else None
        chosen: dict[str, Any] = {"output_scores": True, "return_dict_in_generate": True}
        config = GenerationConfig(max_new_tokens=count, do_sample=False, pad_token_id=0, **chosen)  # type: ignore[no-untyped-call]
        prompt = torch.tensor([list(ids)], device=self._device)
        with torch.inference_mode():
            out = self._model.generate(
                prompt, attention_mask=torch.ones_like(prompt), past_key_values=cache, generation_config=config
            )
        return out.sequences[0, len(ids) :].tolist(), torch.cat(out.scores).float()


def stored(states: KeyValues) -> States:
    """Copies of what the states hold; of all there is room for where they hold nothing yet."""
    length = states.length or states.capacity
    return [
        (k[:, :, :length].clone(), v[:, :, :length].clone()) for k, v in zip(states.keys, states.values, strict=True)
    ]


def apart(prefix: int, lengths: Sequence[int], suffix: int, *, see_prefix: bool) -> torch.Tensor:
    """The mask of chunks that see themselves, and the prefix or not, before a suffix that sees everything."""
    import torch

    total = prefix + sum(lengths) + suffix
    mask = torch.ones(total, total, dtype=torch.bool).tril_()
    at = prefix
    for length in lengths:
        mask[at : at + length, (prefix if see_prefix else 0) : at] = False
        at += length
    return mask


def _merged(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    merged: tuple[int, int, float, float] = (0, 0, 1.0, 1.0),
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """APE's attention as its code has it: two softmaxes, merged by their log-sum-exps, in rows behind the chunks."""
    import torch

    start, stop, temperature, scale = merged
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, dim=1).float(), value.repeat_interleave(group, dim=1).float()
    scores = query.float() @ key.mT * scaling + attention_mask.float()
    out = scores.softmax(-1) @ value
    among = scores[:, :, stop:, start:stop] / temperature
    other = scores[:, :, stop:].clone()
    other[..., start:stop] = float("-inf")
    outs = torch.stack([among.softmax(-1) @ value[:, :, start:stop], other.softmax(-1) @ value])
    sums = torch.stack([among.logsumexp(-1) * (scale * temperature), other.logsumexp(-1)])
    out[:, :, stop:] = (sums.softmax(0)[..., None] * outs).sum(0)
    return out.transpose(1, 2).to(query.dtype).contiguous(), None
