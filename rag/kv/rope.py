"""Rotation of stored keys to their places, with the model's own angles, and which models it is right for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag.errors import ModelNotAvailable

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel

ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Kinds of positions whose angles depend on a token's own position alone."""

Rope = tuple["torch.Tensor", "torch.Tensor"]
"""Cosines and sines, each (B or 1, tokens, head_dim), multiplied by the model's attention scaling."""


def check_supported(model: LanguageModel) -> None:
    """Raises ModelNotAvailable for a model whose keys cannot be moved by one rotation of the whole head."""
    config: Any = model.model.config
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default") if all(not isinstance(v, dict) for v in rope.values()) else "one per layer"
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    core: Any = model.model.model
    turned, width = 2 * core.rotary_emb.inv_freq.numel(), core.layers[0].self_attn.head_dim
    if kind not in ROPE_TYPES:
        why = f"has positions of type {kind!r}; supported: {', '.join(ROPE_TYPES)}"
    elif rope.get("partial_rotary_factor", 1.0) != 1.0 or turned != width:
        why = f"rotates {turned} of the {width} dimensions of a head"
    elif window is not None and window < config.max_position_embeddings:
        why = f"has layers that see only the last {window} tokens"
    else:
        return
    raise ModelNotAvailable(f"chunk states cannot be reused with {model.name!r}: it {why}; read its prompts whole")


def angles(model: LanguageModel, positions: torch.Tensor) -> Rope:
    """The angles of positions (tokens,), in the model's dtype."""
    import torch

    core: Any = model.model.model
    like = torch.empty(0, dtype=model.model.dtype, device=model.model.device)
    cos, sin = core.rotary_emb(like, position_ids=positions.to(like.device)[None])
    return cos, sin


def rotated(states: torch.Tensor, rope: Rope) -> torch.Tensor:
    """Queries or raw keys (B, heads, tokens, head_dim) at their positions, to the bit as the model has them."""
    import torch

    cos, sin = (part[:, None] for part in rope)
    half = states.shape[-1] // 2
    turned = torch.cat((-states[..., half:], states[..., :half]), dim=-1)
    return states * cos + turned * sin


def rotate_in_place(states: torch.Tensor, rope: Rope) -> None:
    """``rotated`` where the states (B, heads, tokens, head_dim) stand, and the same bits."""
    cos, sin = (part[:, None] for part in rope)
    half = states.shape[-1] // 2
    first, second = states[..., :half], states[..., half:]
    from_second, from_first = second * sin[..., :half], first * sin[..., half:]
    states *= cos
    first -= from_second
    second += from_first
