"""Published figures: the list is whole and its commands exist, and a verdict is what the numbers say."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from eval import cli
from eval.measures import parse_measures
from eval.reproduce import Places, Verdict, judged, places, reproduce, run_command
from eval.reproductions import Reproduction, chosen, published, read
from rag.config import settings_from
from rag.errors import InvalidInput
from tests.data import shared_data

ENTRY = """
- name: tiny
  source: counted by hand
  commands:
    - kvasir-eval score --qrels ${data}/qrels --run "${data}/my run" --metrics "${metrics}"
  tolerance: 0.01
  figures:
    set: {RR@10: 0.75, P@1: 0.5}
"""


@pytest.fixture
def here(tmp_path: Path) -> Places:
    """A data folder with the set ``set``, whose run has reciprocal ranks 1 and 1/2."""
    (tmp_path / "data" / "set").mkdir(parents=True)
    (tmp_path / "data" / "set" / "qrels").write_text("p 0 a 1\nq 0 a 1\n")
    (tmp_path / "data" / "set" / "my run").write_text("p Q0 a 1 2 t\nq Q0 b 1 2 t\nq Q0 a 2 1 t\n")
    return Places(data=[tmp_path / "data"], models=tmp_path / "models", home=tmp_path / "home")


def test_measures_are_named_as_they_are_given_back() -> None:
    for one in published():
        assert [str(measure) for measure in parse_measures(" ".join(one.expected))] == list(one.expected), one.name


@pytest.mark.parametrize("one", {one.condition: one for one in published()}.values(), ids=lambda one: one.condition)
def test_every_condition_can_be_asked_for(one: Reproduction) -> None:
    assert one.source
    assert bool(one.commands) != bool(one.cannot)
    group: Any = typer.main.get_command(cli.app)
    for command in one.commands:
        name, *words = shlex.split(command)[1:]
        group.commands[name].make_context(name, words)  # refuses what is no option of it
    assert "${metrics}" in one.commands[-1] if one.commands else True
    if one.settings:
        import tomllib

        settings_from(tomllib.loads(one.settings.replace("${model}", "a/model")))


def test_the_lists_are_whole() -> None:
    by_condition: dict[str, list[str]] = {}
    for one in published():
        by_condition.setdefault(one.condition, []).append(one.data)
    assert len(by_condition["anserini-bm25"]) == 29  # 17 sets and the 12 parts of CQADupStack
    assert len(by_condition["mteb-minilm"]) == 9
    assert by_condition["trec-dl-bm25"] == ["trec-dl19-pool", "trec-dl20-pool", "trec-dl21-pool"]
    assert {one.name for one in chosen(["offline"])} == {
        "anserini-bm25/scifact",
        "mteb-minilm/scifact",
        *(f"trec-dl-{run}/trec-dl19-pool" for run in ("bm25", "bm25-rm3", "tas-b", "ada2", "splade-pp-ed", "repllama")),
    }


def test_a_figure_that_comes_out_is_reproduced(here: Places) -> None:
    (outcome,) = reproduce(read(ENTRY, "here"), here, run_command)
    assert (outcome.verdict, dict(outcome.got)) == (Verdict.REPRODUCED, {"RR@10": 0.75, "P@1": 0.5})


def test_one_measure_outside_of_the_tolerance_differs(here: Places) -> None:
    (outcome,) = reproduce(read(ENTRY.replace("0.75", "0.77"), "here"), here, run_command)
    assert (outcome.verdict, outcome.got["RR@10"]) == (Verdict.DIFFERS, 0.75)


def test_the_tolerance_itself_is_within() -> None:
    (one,) = read(ENTRY, "here")
    assert judged(one, {"RR@10": 0.76, "P@1": 0.49}) is Verdict.REPRODUCED
    assert judged(one, {"RR@10": 0.7601, "P@1": 0.5}) is Verdict.DIFFERS


def test_an_error_fails_one_figure_and_stops_no_other(here: Places) -> None:
    broken = ENTRY.replace("tiny", "broken").replace("my run", "no run")
    outcomes = list(reproduce(read(broken + ENTRY, "here"), here, run_command))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.FAILED, Verdict.REPRODUCED]
    assert "no run" in outcomes[0].why


def test_no_kind_of_error_stops_another_figure_but_the_user_does(here: Places) -> None:
    entries, errors = read(ENTRY.replace("tiny", "broken") + ENTRY, "here"), [OSError("no\nspace"), KeyError("x")]

    def failing(words: list[str]) -> Any:
        if errors:
            raise errors.pop(0)
        return run_command(words)

    first, second, third = (next(iter(reproduce([one], here, failing))) for one in [*entries, entries[0]])
    assert [one.verdict for one in (first, second, third)] == [Verdict.FAILED, Verdict.FAILED, Verdict.REPRODUCED]
    assert (first.why, second.why) == ("OSError: no space", "KeyError: 'x'")
    errors[:] = [OSError("x")]
    assert [one.verdict for one in reproduce(entries, here, failing)] == [Verdict.FAILED, Verdict.REPRODUCED]
    errors[:] = [typer.Abort()]  # what becomes of Ctrl-C within a command
    with pytest.raises(typer.Abort):
        list(reproduce(entries, here, failing))


def test_figures_that_a_command_does_not_print_fail_that_entry_alone(here: Places) -> None:
    entries = read(ENTRY.replace("tiny", "broken") + ENTRY, "here")
    answers: list[Any] = [{"metrics": {"RR@10": "high", "P@1": None}}, {"metrics": {"RR@10": 0.75, "P@1": 0.5}}]
    outcomes = list(reproduce(entries, here, lambda words: answers.pop(0)))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.FAILED, Verdict.REPRODUCED]


def test_a_home_may_begin_with_a_tilde(here: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here.home))
    (here.home / "sets" / "set").mkdir(parents=True)
    found = places(Path("~/sets"), Path("~/models"), Path("~/.kvasir"))
    assert found.home == here.home / ".kvasir"
    assert found.data == [here.home / "sets", here.home / ".kvasir" / "datasets"]
    assert found.models == here.home / "models"


def test_what_is_not_here_is_skipped_with_the_reason(here: Places) -> None:
    for entry, why in [
        (ENTRY.replace("    set:", "    elsewhere:"), "no folder 'elsewhere'"),
        (ENTRY.replace("  tolerance", "  model: some/model-of-nobody\n  tolerance"), "no model some/model-of-nobody"),
        (ENTRY.replace("commands:\n    - kvasir-eval", "cannot: kvasir-eval"), "kvasir-eval score"),
    ]:
        (outcome,) = reproduce(read(entry, "here"), here, run_command)
        assert outcome.verdict is Verdict.SKIPPED
        assert why in outcome.why


def test_a_model_in_the_folder_of_models_is_taken_from_there(here: Places) -> None:
    (one,) = read(ENTRY.replace("  tolerance", "  model: some/model-of-nobody\n  tolerance"), "here")
    assert here.models is not None
    (here.models / "model-of-nobody").mkdir(parents=True)
    assert here.model_of(one) == str(here.models / "model-of-nobody")
    (outcome,) = reproduce([one], here, run_command)
    assert outcome.verdict is Verdict.REPRODUCED


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("  tolerance: 0.01", "  tolerance: 0.5", "here, 'tiny': tolerance 0.5"),
        ("  tolerance: 0.01\n", "", "here, 'tiny': 'tolerance'"),
        ("0.75", "75", "75 is no fraction of 1"),
        ("0.75", ".nan", "nan is no fraction of 1"),
        ("kvasir-eval score", "rm", "'rm .*is no command of kvasir-eval"),
        ("source:", "sauce:", "unknown key 'sauce'"),
        ("commands:\n    - kvasir-eval", "cannod: x\n  #", "unknown key 'cannod'"),
        ("- name: tiny", "- name: [", "here is no YAML"),
        ("- name: tiny", "name: tiny", "here is no list|here is no YAML"),
    ],
)
def test_a_broken_entry_is_named(old: str, new: str, says: str) -> None:
    assert old in ENTRY
    with pytest.raises(InvalidInput, match=says):
        read(ENTRY.replace(old, new), "here")


def test_a_figure_may_stand_there_once() -> None:
    with pytest.raises(InvalidInput, match="'tiny/set' comes twice"):
        read(ENTRY + ENTRY, "here")


def said(*arguments: object) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(cli.app, ["reproduce", *map(str, arguments)])
    return result.exit_code, result.stdout, result.exception


def test_the_command_says_by_its_exit_code_how_it_came_out(tmp_path: Path) -> None:
    """A folder of that name with other judgements: the published figure does not come out."""
    pool = tmp_path / "trec-dl19-pool"
    (pool / "runs").mkdir(parents=True)
    (pool / "qrels.full.txt").write_text("q 0 a 1\n")
    (pool / "runs" / "BM25.trec").write_text("q Q0 a 1 1 t\n")
    code, out, _ = said("--only", "trec-dl-bm25", "--data", tmp_path, "--home", tmp_path / "home")
    assert code == 1
    assert "0.5058 +-0.0001  1.0000  differs" in out
    assert "skipped 2: no folder 'trec-dl20-pool'" in out or "skipped 1: no folder 'trec-dl20-pool'" in out
    _, _, error = said("--only", "trec-dl-bm25", "--data", tmp_path / "nowhere", "--home", tmp_path / "home")
    assert isinstance(error, InvalidInput)
    assert "nothing could be run" in str(error)
    _, _, error = said("--only", "everything")
    assert "no published figure is called 'everything'" in str(error)


def test_published_lists_of_trec_dl19_come_out_by_the_command(tmp_path: Path) -> None:
    pool = shared_data("trec-dl19-pool")
    names = ["bm25", "bm25-rm3", "tas-b", "ada2", "splade-pp-ed", "repllama"]
    only = [word for name in names for word in ("--only", f"trec-dl-{name}/trec-dl19-pool")]
    code, out, _ = said(*only, "--data", pool.parent, "--home", tmp_path, "--json")
    assert [outcome["verdict"] for outcome in json.loads(out)] == ["reproduced"] * 6
    assert code == 0


def test_everything_is_listed_without_running_anything(tmp_path: Path) -> None:
    code, out, _ = said("--list", "--data", tmp_path, "--home", tmp_path / "home")
    assert code == 0
    assert all(one.name in out for one in published())
