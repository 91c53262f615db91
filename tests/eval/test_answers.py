"""Answering a set of questions end to end by the extractive generator, and going on after an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from eval.kept_rows import KeptRows, fingerprint
from rag.errors import InvalidInput
from tests.eval.conftest import write_beir
from tests.eval.test_cli import run

ANSWERS: dict[str, list[str]] = {"q1": ["A cat sleeps on the warm sofa and purrs."], "q2": ["Norway"], "moon": []}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny folder with an answer that is extracted, one that is wrong, and a question without an answer."""
    made = write_beir(tmp_path_factory.mktemp("answers") / "tiny")
    rows = [json.loads(line) for line in (made / "queries.jsonl").read_text().splitlines()]
    rows = [row | {"metadata": {"answers": ANSWERS[row["_id"]]}} for row in rows]
    (made / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def answered(folder: Path, home: Path, *more: object) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(run("answers", folder, "--home", home, "--json", *more))
    return said


def test_answers_are_measured_and_an_interrupted_run_goes_on(folder: Path, home: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    said = answered(folder, home, "--rows", rows)
    assert (said["questions"], said["unanswerable"], said["resumed"]) == (3, 1, 0)
    kept = [json.loads(line) for line in rows.read_text().splitlines()]
    by_id = {row["key"]: row["row"] for row in kept[1:]}
    assert "warm sofa" in by_id["q1"]["text"]
    assert by_id["q1"]["cited"] == ["cat"]
    assert said["metrics"]["contains"] == pytest.approx((1 + 0 + (not by_id["moon"]["found"])) / 3, abs=1e-4)
    assert said["metrics"]["support_recall"] >= 2 / 3 - 1e-4
    assert said["tokens"]["context_tokens"] > 0
    assert (said["build"]["documents"], said["build"]["chunks"]) == (5, 5)
    assert said["build"]["megabytes"] > 0
    assert said["build"]["seconds"]["encode"] > 0
    assert said["latency_ms"]["p95"] >= said["latency_ms"]["p50"] > 0

    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join(lines[:2]) + lines[2][:20])  # killed while the second answer was written
    again = answered(folder, home, "--rows", rows)
    assert again["resumed"] == 1
    assert again["metrics"] == said["metrics"]
    assert len(rows.read_text().splitlines()) == 4
    with pytest.raises(InvalidInput, match="another pipeline, collection or version"):
        answered(folder, home, "--rows", rows, "--set", "budget=77")


def test_a_question_that_no_split_judges_is_asked_and_one_of_another_split_is_not(
    folder: Path, home: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(folder, tmp_path / "tiny")
    with (own / "queries.jsonl").open("a") as queries:
        for name in ("lost", "dev1"):
            queries.write(json.dumps({"_id": name, "text": "Who left?", "metadata": {"answers": []}}) + "\n")
    (own / "qrels" / "dev.tsv").write_text("dev1\tcat\t1\n")
    said = answered(own, home, "--rows", tmp_path / "rows")
    assert (said["questions"], said["unanswerable"]) == (4, 2)
    assert said["counted"]["support_recall"] == 3
    assert "lost" in {json.loads(line).get("key") for line in (tmp_path / "rows").read_text().splitlines()}


def test_questions_without_answers_are_refused(beir_folder: Path, home: Path) -> None:
    with pytest.raises(InvalidInput, match="no query of tiny \\(test\\) says its answer"):
        run("answers", beir_folder, "--home", home)


def test_a_fingerprint_knows_every_part_and_no_order() -> None:
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_a_file_that_holds_something_else_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    for content in ("my notes\n", "my notes", '{"a": 1}\n', "[]\n"):
        file.write_text(content)
        with pytest.raises(InvalidInput, match="holds no kept rows"):
            KeptRows(file, "x")
        assert file.read_text() == content


def test_a_file_cut_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_text('{"kvasir_ro')
    kept = KeptRows(file, "x")
    kept.keep("q", {"text": "ä"})
    assert KeptRows(file, "x").rows == {"q": {"text": "ä"}}
