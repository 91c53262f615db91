"""``kvasir models info`` and ``use``, and head sets that a model's directory holds."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from rag.cli import app
from rag.config import load_settings
from rag.errors import InvalidConfig, ModelNotAvailable
from rag.language_model import LanguageModel
from rag.model_facts import model_facts
from rag.reranking.heads import AUTO, OWN, HeadSet, heads_for, write
from rag.runtime.lexical import LexicalReader
from tests.tiny_models import saved

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("KVASIR_HOME", str(home))
    monkeypatch.delenv("KVASIR_MODEL__NAME", raising=False)
    monkeypatch.delenv("KVASIR_CONFIG", raising=False)
    return home


def kvasir(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_are_those_of_the_loaded_model(family: str) -> None:
    path = saved(family)
    found, model = model_facts(str(path)), LanguageModel(str(path), device="cpu", dtype="float32")
    layers, heads = model.shape
    assert (found.layers, found.heads, found.context) == (layers, heads, model.context)
    assert found.family == model.family.name
    assert found.fingerprint == model.fingerprint
    with safe_open(path / "model.safetensors", "pt") as tensors:
        assert found.parameters == sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    config = model.model.config
    size = config.head_dim if getattr(config, "head_dim", None) else config.hidden_size // config.num_attention_heads
    assert found.state_bytes == 2 * layers * config.num_key_value_heads * size * 4


def test_info_as_text_and_json(tmp_path: Path) -> None:
    path = saved("llama")
    told = json.loads(kvasir("models", "info", path, "--json"))
    assert told["parameters"] == model_facts(str(path)).parameters
    text = kvasir("models", "info", path)
    assert f"{told['parameters']:,}" in text
    assert told["fingerprint"] in text
    with pytest.raises(ModelNotAvailable, match="no language model on this machine"):
        kvasir("models", "info", tmp_path)


def test_use_changes_the_name_and_nothing_else(own_home: Path) -> None:
    file = own_home / "kvasir.toml"
    own_home.mkdir()
    before = '# mine\nmax_query_chars = 900  # long\n\n[model]\ndtype = "float32"\n\n[server]\nport = 9000\n'
    file.write_text(before, encoding="utf-8")
    kvasir("models", "use", saved("llama"))
    after = file.read_text(encoding="utf-8")
    assert tomllib.loads(after) == {**tomllib.loads(before), "model": {"dtype": "float32", "name": str(saved("llama"))}}
    assert "# mine" in after
    assert "# long" in after
    assert load_settings().model.name == str(saved("llama"))


def test_use_makes_a_settings_file_where_there_is_none(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(kvasir("models", "use", "lexical", "--json"))
    assert told == {"model": "lexical", "settings": str(own_home / "kvasir.toml")}
    assert load_settings().model.name == "lexical"
    monkeypatch.setenv("KVASIR_MODEL__NAME", "other")
    assert "still comes first" in kvasir("models", "use", "lexical")


def test_what_is_no_model_is_not_written(own_home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotAvailable):
        kvasir("models", "use", tmp_path)
    assert not (own_home / "kvasir.toml").exists()
    own_home.mkdir()
    (own_home / "kvasir.toml").write_text("model = 3\n", encoding="utf-8")
    with pytest.raises(InvalidConfig, match=r"\[model\]"):
        kvasir("models", "use", "lexical")
    assert (own_home / "kvasir.toml").read_text(encoding="utf-8") == "model = 3\n"


def test_a_models_own_head_set_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(saved("llama"), path)
    model = LanguageModel(str(path), device="cpu", dtype="float32")
    assert heads_for(model, AUTO) is None
    write(path / OWN, HeadSet("own", ((1, 2), (0, 1)), "model", "", model.fingerprint))
    assert heads_for(model, AUTO) == {0: (1,), 1: (2,)}
    assert model_facts(str(path)).head_set == ((1, 2), (0, 1))
    assert heads_for(LexicalReader(), AUTO) is None
    write(path / OWN, HeadSet("own", ((1, 2),), "model", "", "another:0123"))
    with pytest.raises(InvalidConfig, match="another:0123"):
        heads_for(model, AUTO)
