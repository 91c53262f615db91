"""Names of models: equal weights have one name wherever they lie, and every change gives another."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from rag.kv.identity import fingerprint_of, weights_digest
from rag.kv.tokenizers import tokenizer_of
from rag.language_model import LanguageModel
from tests.rag.kv.models import model_of
from tests.tiny_models import saved


def test_a_copy_of_a_model_has_its_name(tmp_path: Path) -> None:
    copy = shutil.copytree(saved("llama"), tmp_path / "elsewhere")
    other = LanguageModel(str(copy), device="cpu", dtype="float32")
    assert fingerprint_of(other, (1, 2)) == fingerprint_of(model_of(), (1, 2))


def test_each_difference_gives_another_name() -> None:
    one = fingerprint_of(model_of(), (1, 2))
    others = [
        fingerprint_of(model_of(), (1, 3)),
        fingerprint_of(model_of(), (1, 2), "tenant"),
        fingerprint_of(model_of(dtype="bfloat16"), (1, 2)),
        fingerprint_of(model_of(rope="linear"), (1, 2)),
        fingerprint_of(model_of("qwen3"), (1, 2)),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 6


def test_one_bit_of_one_weight_changes_the_digest() -> None:
    model = LanguageModel(str(saved("llama")), device="cpu", dtype="float32").model
    before = weights_digest(model)
    assert weights_digest(model) == before
    with torch.no_grad():
        weight = model.get_parameter("model.layers.1.mlp.down_proj.weight")
        weight.view(torch.int32)[3, 5] ^= 1
    assert weights_digest(model) != before


def test_the_tokenizer_alone_is_the_models_own() -> None:
    for family in ("llama", "mistral", "qwen3"):
        assert tokenizer_of(str(saved(family))).digest == model_of(family).tokenizer.digest
