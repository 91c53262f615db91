"""In-context re-ranking against scores that the published implementations computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rag.errors import InvalidInput
from rag.language_model import LanguageModel
from rag.reranking.icr_oracle import TOLERANCE, CaseResult, verify
from tests.data import shared_oracle


@pytest.fixture(scope="module")
def oracle() -> Path:
    return shared_oracle("icr")


def load(folder: Path) -> LanguageModel:
    return LanguageModel(str(folder), device="cpu", dtype="float32")


def test_every_case(oracle: Path) -> None:
    report = verify(oracle, load)
    cases = (oracle / "cases.jsonl").read_text(encoding="utf-8").count("\n")
    assert [(case.id, case.problems) for case in report.cases if case.problems] == []
    assert len(report.cases) == report.same_order == cases > 0
    assert report.difference < TOLERANCE
    assert report.passed


def one_case(oracle: Path, folder: Path, **changes: object) -> Path:
    """A copy of the oracle with its first case, some of its expected values replaced."""
    case = json.loads((oracle / "cases.jsonl").read_text(encoding="utf-8").splitlines()[0])
    case["expected"] |= changes
    (folder / "cases.jsonl").write_text(json.dumps(case) + "\n", encoding="utf-8")
    shutil.copytree(oracle / case["model"], folder / case["model"])
    return folder


def test_a_wrong_score_fails(oracle: Path, tmp_path: Path) -> None:
    scores = json.loads((oracle / "cases.jsonl").read_text(encoding="utf-8").splitlines()[0])["expected"]["scores"]
    scores[1] += 1e-4
    report = verify(one_case(oracle, tmp_path, scores=scores), load)
    assert not report.passed
    assert report.cases[0].problems == ("scores differ by 1.0e-04",)


def test_a_wrong_span_fails(oracle: Path, tmp_path: Path) -> None:
    report = verify(one_case(oracle, tmp_path, doc_spans=[]), load)
    assert report.cases[0].problems == ("doc_spans differ",)


def test_an_expected_score_that_is_no_number_fails(oracle: Path, tmp_path: Path) -> None:
    report = verify(one_case(oracle, tmp_path, scores=[float("nan")] * 5), load)
    assert report.cases[0].problems == ("scores differ by inf",)


def test_a_case_that_cannot_run_does_not_end_the_others(oracle: Path, tmp_path: Path) -> None:
    folder = one_case(oracle, tmp_path)
    good = (folder / "cases.jsonl").read_text(encoding="utf-8")
    (folder / "cases.jsonl").write_text('{"id": "empty"}\n' + good.replace("tiny-llama", "no-such-model") + good)
    found = verify(folder, load).cases
    assert found[0] == CaseResult("empty", float("inf"), False, ("the case lacks or misstates 'model'",))
    assert "cannot be loaded" in found[1].problems[0]
    assert found[2].problems == ()


def test_a_line_separator_inside_a_text_ends_no_line(oracle: Path, tmp_path: Path) -> None:
    folder = one_case(oracle, tmp_path)
    text = (folder / "cases.jsonl").read_text(encoding="utf-8")
    (folder / "cases.jsonl").write_text(text.replace('"id": "', '"note": "a\u2028b", "id": "'), encoding="utf-8")
    assert verify(folder, load).passed


def test_a_folder_without_cases_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no .*cases\.jsonl; an oracle is a folder with"):
        verify(tmp_path, load)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text("\n{oops\n")
    with pytest.raises(InvalidInput, match=r"cases\.jsonl, line 2 is not JSON"):
        verify(tmp_path, load)


def test_no_case_is_no_pass(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text("")
    assert not verify(tmp_path, load).passed
