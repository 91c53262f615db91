"""Rotation of raw keys, and the models whose keys are not rotated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rag.errors import ModelNotAvailable
from rag.kv.rope import angles, check_supported, rotate_in_place, rotated
from rag.language_model import LanguageModel
from rag.runtime.families import family_of
from tests.rag.kv.models import model_of
from tests.tiny_models import CONTROLS, FAMILIES, ROPES, loaded, one_thread

__all__ = ["one_thread"]


def _wrapped(family: str, **changes: Any) -> LanguageModel:
    """A model of random weights with other settings."""
    config = AutoConfig.for_model(
        family,
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        **changes,
    )
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return LanguageModel.wrap(model.eval(), loaded(family).tokenizer, family_of(family, CONTROLS[family]), "odd")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rope", ROPES)
def test_in_place_gives_the_same_bits(rope: str, dtype: torch.dtype) -> None:
    model = model_of("qwen2", rope, str(dtype).removeprefix("torch."))
    states = torch.randn(1, 2, 300, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    at = angles(model, torch.arange(500, 800))
    wanted = rotated(states, at)
    room = torch.zeros(1, 2, 400, 16, dtype=dtype)
    room[:, :, 50:350] = states
    rotate_in_place(room[:, :, 50:350], at)
    assert torch.equal(room[:, :, 50:350], wanted)
    assert not room[:, :, :50].any()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rope", ROPES)
def test_all_families_are_supported_with_all_static_positions(family: str, rope: str) -> None:
    check_supported(model_of(family, rope))


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic'"),
        (
            "llama",
            {
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "factor": 2.0,
                    "short_factor": [1.0] * 8,
                    "long_factor": [1.0] * 8,
                    "original_max_position_embeddings": 128,
                }
            },
            "'longrope'",
        ),
        ("mistral", {"sliding_window": 64}, "the last 64 tokens"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}, "the last 64 tokens"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "of the 16 dimensions of a head",
        ),
    ],
)
def test_other_models_are_refused(family: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelNotAvailable, match=says):
        check_supported(_wrapped(family, **changes))


def test_a_window_that_nothing_can_slide_out_of_is_no_matter(tmp_path: Path) -> None:
    check_supported(_wrapped("mistral", sliding_window=4096, max_position_embeddings=4096))
