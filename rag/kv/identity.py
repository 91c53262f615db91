"""Everything about a loaded model that decides the bytes of its chunk states."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from rag.kv.key import Fingerprint, canonical, token_hash

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel

_SETTINGS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
    "attention_bias",
    "mlp_bias",
    "layer_types",
    "sliding_window",
    "use_sliding_window",
)
_SAMPLES = 64
_STEP = 2**24
"""Numbers that are added up at once."""


def fingerprint_of(model: LanguageModel, prefix: Sequence[int], tenant: str = "") -> Fingerprint:
    """The names under which this model's states are stored, of chunks read behind ``prefix``. Loads the model.

    Neither the model's path nor its name is in it: machines that have the same model share what they store.
    """
    config = model.model.config
    chosen = {name: getattr(config, name, None) for name in _SETTINGS}
    return Fingerprint(
        weights=weights_digest(model.model),
        config=canonical(chosen),
        tokenizer=model.tokenizer.digest,
        prefix=token_hash(prefix),
        scheme=str(model.model.dtype).removeprefix("torch."),
        tenant=tenant,
    )


def weights_digest(model: Any) -> str:
    """128 bits in hex over all weights as they were loaded: names, shapes, sums of all their bits, some of them.

    A pass over the weights, of a second for each few gigabytes; sums are of whole numbers, so their order is nothing.
    """
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        bits = _bits(tensor)
        total = sum(int(bits[at : at + _STEP].sum(dtype=_long())) for at in range(0, len(bits), _STEP))
        some = bits[:: max(1, len(bits) // _SAMPLES)][:_SAMPLES].tolist()
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}:{total}:{some};".encode())
    return digest.hexdigest()


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().contiguous().reshape(-1).view(whole)


def _long() -> torch.dtype:
    import torch

    return torch.int64
