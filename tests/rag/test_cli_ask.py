"""``kvasir ask`` with a language model, as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from indexes.home import Home
from rag.cli import app
from rag.errors import InvalidConfig
from tests.speaking_models import saved_speaking
from tests.tiny_models import one_thread

__all__ = ["one_thread"]
SAYS = "The crossing takes 42 minutes [1]."
QUESTION = "How many minutes does the crossing to Vendel take?"


def ask(home: Home, *arguments: object) -> str:
    words = ["ask", "small", QUESTION, "--home", str(home.root), *map(str, arguments)]
    result = CliRunner().invoke(app, words, env={"KVASIR_MODEL__DTYPE": "float32"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def model() -> Path:
    return saved_speaking(SAYS)


def test_a_local_model_answers(small_home: Home, model: Path) -> None:
    shown = ask(small_home, "--generate", "local", "--model", model)
    assert f"\n{SAYS}\n" in shown
    assert " *[1] " in shown
    assert "(speaking-llama)" in shown


def test_json_has_the_usage_and_the_trace(small_home: Home, model: Path) -> None:
    body = json.loads(ask(small_home, "--generate", "local", "--model", model, "--json"))
    assert (body["answer"], body["generator"]) == (SAYS, "speaking-llama")
    stage = body["trace"]["stages"][-1]
    assert stage["decoded"] == body["usage"]["completion_tokens"] > 0
    assert stage["first_token"] > 0


def test_a_selector_explains_each_candidate(small_home: Home) -> None:
    shown = ask(small_home, "--selector", "search", "--budget", 60, "--explain")
    assert "Selection by search (utility 0." in shown
    assert "  + " in shown
    assert "  - " in shown
    body = json.loads(ask(small_home, "--selector", "search", "--budget", 60, "--explain", "--json"))
    said = body["selection"]
    assert {w["chunk_id"] for w in said["chosen"]} == {source["chunk_id"] for source in body["sources"]}
    for weighed in said["chosen"]:
        assert f"  + {weighed['chunk_id']}  {weighed['by']}: {weighed['gain']:+.4f} = " in shown
    assert "by rank while they fit" in ask(small_home, "--selector", "budget", "--explain")
    with pytest.raises(InvalidConfig, match="did you mean 'search'"):
        ask(small_home, "--selector", "serch")


def test_without_a_model_it_says_what_to_do(small_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVASIR_MODEL__NAME", "")
    with pytest.raises(InvalidConfig, match="no language model is set"):
        ask(small_home, "--generate", "local")
    with pytest.raises(InvalidConfig, match="did you mean 'local'"):
        ask(small_home, "--generate", "locale")
