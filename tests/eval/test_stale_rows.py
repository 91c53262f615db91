"""Rows of an earlier run are taken only where the run that takes them would make the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from eval import made_by as making
from rag.errors import InvalidInput
from tests.eval.conftest import QUERIES, write_beir
from tests.eval.test_cli import run

COMMANDS = ("beir", "answers")


def write_queries(folder: Path, queries: dict[str, str]) -> None:
    rows = [{"_id": key, "text": text, "metadata": {"answers": ["cat"]}} for key, text in queries.items()]
    (folder / "queries.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = write_beir(tmp_path / "tiny")
    write_queries(made, QUERIES)
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def ran(command: str, folder: Path, home: Path, *more: object) -> dict[str, Any]:
    named = ("-p", "bm25") if command == "beir" else ("--set", "retrieve=bm25")
    rows = folder.parent / f"{command}.rows"
    said: dict[str, Any] = json.loads(run(command, folder, "--home", home, "--rows", rows, "--json", *named, *more))
    return said


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("setting", "value"),
    [("INDEX__K1", "2.0"), ("INDEX__B", "0.9"), ("INDEX__HNSW_EF_SEARCH", "64"), ("ENCODER__DTYPE", "bfloat16")],
)
def test_settings_of_the_search_belong_to_the_rows(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, command: str, setting: str, value: str
) -> None:
    assert ran(command, folder, home)["resumed"] == 0
    monkeypatch.setenv(f"KVASIR_{setting}", value)
    with pytest.raises(InvalidInput, match="another pipeline, collection or version"):
        ran(command, folder, home)


@pytest.mark.parametrize("command", COMMANDS)
def test_memory_for_the_search_does_not(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    ran(command, folder, home)
    monkeypatch.setenv("KVASIR_INDEX__CHUNK_CACHE_MB", "17")
    assert ran(command, folder, home)["resumed"] == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_a_query_that_reads_otherwise_is_asked_anew_and_a_new_one_besides(
    folder: Path, home: Path, command: str
) -> None:
    ran(command, folder, home)
    write_queries(folder, {**QUERIES, "q2": QUERIES["q1"], "q3": "bread?"})
    with (folder / "qrels" / "test.tsv").open("a") as qrels:
        qrels.write("q3\tbread\t1\n")
    assert ran(command, folder, home)["resumed"] == 2
    rows = [json.loads(line) for line in (folder.parent / f"{command}.rows").read_text().splitlines()[1:]]
    last = {row["key"]: row["row"] for row in rows}
    assert [row["key"] for row in rows[3:]] == ["q2", "q3"]
    kept = "documents" if command == "beir" else "text"
    assert last["q2"][kept] == last["q1"][kept]


@pytest.mark.parametrize("command", COMMANDS)
def test_rows_of_another_split_or_set_are_refused(folder: Path, home: Path, command: str) -> None:
    ran(command, folder, home)
    shutil.copy(folder / "qrels" / "test.tsv", folder / "qrels" / "dev.tsv")
    with pytest.raises(InvalidInput, match="another pipeline, collection or version"):
        ran(command, folder, home, "--split", "dev")
    other = shutil.copytree(folder, folder.with_name("other"))
    with pytest.raises(InvalidInput, match="another pipeline, collection or version"):
        ran(command, other, home, "--collection", "beir-tiny")


@pytest.mark.parametrize("command", COMMANDS)
def test_rows_of_another_commit_are_refused(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(making, "commit", lambda: "abc")
    ran(command, folder, home)
    monkeypatch.setattr(making, "commit", lambda: "abd")
    with pytest.raises(InvalidInput, match="another pipeline, collection or version"):
        ran(command, folder, home)


def test_no_time_of_an_answer_is_that_of_loading(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is not counted comes before the first, and none where every question has its row."""
    from rag.pipeline import Pipeline

    asked: list[str] = []
    answer = Pipeline.answer

    def noted(self: Pipeline, query: Any, *more: Any, **named: Any) -> Any:
        asked.append(query.id)
        return answer(self, query, *more, **named)

    monkeypatch.setattr(Pipeline, "answer", noted)
    assert ran("answers", folder, home)["questions"] == 3
    assert asked == ["", "q1", "q2", "moon"]
    assert ran("answers", folder, home)["resumed"] == 3
    assert len(asked) == 4
