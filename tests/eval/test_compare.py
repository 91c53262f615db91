"""Comparisons of run and result files: figures one redoes by hand, through the command."""

from __future__ import annotations

import json
from math import log2
from pathlib import Path
from typing import Any

import pytest

from eval.commands import compare_files
from eval.comparison import Rules
from eval.systems import load_systems
from rag.errors import InvalidInput
from tests.data import shared_data
from tests.eval.test_cli import run

QRELS = "q1 0 a 2\nq1 0 b 1\nq2 0 a 1\nq3 0 a 1\nq4 0 a 1\n"
ONE = {"q1": "a b", "q2": "x a", "q3": "a", "q4": "x y a"}
TWO = {"q1": "b a", "q2": "a x", "q3": "a", "q4": "a"}


def write_run(file: Path, lists: dict[str, str]) -> Path:
    lines = [
        f"{query_id} Q0 {doc_id} {rank} {10 - rank} t\n"
        for query_id, listed in lists.items()
        for rank, doc_id in enumerate(listed.split(), start=1)
    ]
    file.write_text("".join(lines))
    return file


def write_result(file: Path, lists: dict[str, str], qrels: dict[str, dict[str, int]] | None = None) -> Path:
    judged = qrels or {"q1": {"a": 2, "b": 1}, "q2": {"a": 1}, "q3": {"a": 1}, "q4": {"a": 1}}
    rows = {
        query_id: {
            "text": f"text of {query_id}",
            "seconds": 0.01,
            "measures": {},
            "documents": [[doc_id, -rank] for rank, doc_id in enumerate(lists.get(query_id, "").split())],
            "qrels": grades,
        }
        for query_id, grades in judged.items()
    }
    file.write_text(json.dumps({"kvasir_result": 1, "pipeline": file.stem, "per_query": rows}))
    return file


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    (tmp_path / "qrels").write_text(QRELS)
    return write_run(tmp_path / "one.trec", ONE), write_run(tmp_path / "two.trec", TWO), tmp_path / "qrels"


def compared(*arguments: object) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(run("compare", *arguments, "--json"))
    return said


def test_a_pair_by_hand(files: tuple[Path, Path, Path]) -> None:
    one, two, qrels = files
    said = compared(one, two, "--qrels", qrels, "--metrics", "RR@10", "--alpha", "0.6")
    (pair,) = said["pairs"]
    assert said["systems"] == {"one": {"RR@10": pytest.approx((1 + 1 / 2 + 1 + 1 / 3) / 4)}, "two": {"RR@10": 1.0}}
    assert pair["difference"] == pytest.approx((1 / 2 + 2 / 3) / 4)
    assert (pair["wins"], pair["ties"], pair["losses"]) == (2, 2, 0)
    assert pair["randomisation"] == {"p": 0.5, "corrected": 0.5, "exact": True}  # ++ and -- of four assignments
    assert pair["significant"] is True
    assert [(row["query"], row["before"], row["after"]) for row in pair["changed"]] == [
        ("q4", pytest.approx(1 / 3), 1.0),
        ("q2", 0.5, 1.0),
    ]
    assert pair["changed"][0]["ranks"] == {"a": [3, 1]}


def test_relevant_documents_stand_by_grade_and_a_rank_that_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 a 1\nq 0 b 2\nq 0 c 0\n")
    one, two = write_run(tmp_path / "one", {"q": "c a"}), write_run(tmp_path / "two", {"q": "b c"})
    (pair,) = compared(one, two, "--qrels", tmp_path / "qrels")["pairs"]
    assert list(pair["changed"][0]["ranks"].items()) == [("b", [None, 1]), ("a", [2, None])]
    ideal = 2 / log2(2) + 1 / log2(3)
    assert pair["difference"] == pytest.approx((2 / log2(2) - 1 / log2(3)) / ideal)


def test_p_values_are_corrected_over_all_pairs_and_measures(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, two, qrels = files
    third = write_run(tmp_path / "third.trec", {"q1": "x", "q2": "x", "q3": "x", "q4": "x"})
    said = compared(one, two, third, "--qrels", qrels, "-m", "RR@10 P@1")
    assert said["tests"] == len(said["pairs"]) == 6
    least = min(pair["randomisation"]["p"] for pair in said["pairs"])
    assert least == 2 / 2**4
    assert min(pair["randomisation"]["corrected"] for pair in said["pairs"]) == pytest.approx(6 * least)


def test_a_baseline_is_compared_with_all_others_and_nothing_else(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    one, two, qrels = files
    third = write_run(tmp_path / "third.trec", ONE)
    said = compared(one, two, third, "--qrels", qrels, "--baseline", "two")
    assert [(pair["before"], pair["after"]) for pair in said["pairs"]] == [("two", "one"), ("two", "third")]
    with pytest.raises(InvalidInput, match="no system is called 'four'; the baseline is one of: one, two"):
        compared(one, two, "--qrels", qrels, "--baseline", "four")


def test_result_files_need_no_judgements_and_bring_their_texts(tmp_path: Path) -> None:
    one, two = write_result(tmp_path / "one.json", ONE), write_result(tmp_path / "two.json", TWO)
    (pair,) = compared(one, two, "-m", "RR@10")["pairs"]
    assert pair["changed"][0]["text"] == "text of q4"
    mixed = compared(one, write_run(tmp_path / "run", TWO), "-m", "RR@10")
    assert mixed["pairs"][0]["difference"] == pair["difference"]


def test_what_a_run_lacks_counts_zero_and_is_said(tmp_path: Path) -> None:
    one = write_result(tmp_path / "one.json", ONE)
    cut = write_run(tmp_path / "cut.trec", {"q1": "a b", "extra": "a"})
    said = compared(one, cut, "-m", "RR@10")
    assert said["systems"]["cut"]["RR@10"] == 1 / 4
    assert said["notes"] == [
        "cut: 3 judged queries have no result and score 0, first 'q2'",
        "cut: 1 queries are not judged and left out, first 'extra'",
    ]


def test_the_table_names_tests_correction_seed_and_queries(files: tuple[Path, Path, Path]) -> None:
    one, two, qrels = files
    said = run("compare", one, two, "--qrels", qrels, "-m", "RR@10")
    for part in ("4 judged queries", "two -", "2/2/0", "Holm", "seed 0", "a: 3 to 1"):
        assert part in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"kvasir_result": 1, "per_query": {"q": ', r"bad.json, line 1 is no whole JSON"),
        ("{}", "bad.json is JSON, but no result file of form 1"),
        ('{"kvasir_result": 2, "per_query": {}}', "no result file of form 1"),
        ('{"kvasir_result": 1, "per_query": {}}', "bad.json holds no judged query"),
        (
            '{"kvasir_result": 1, "per_query": {"q": {"text": ""}}}',
            "bad.json, query 'q': Object missing required field `documents`",
        ),
        (
            '{"kvasir_result": 1, "per_query": {"q": {"text": "", "seconds": null, "qrels": {"a": 1},'
            ' "documents": [["a", 1], ["a", 0]]}}}',
            "query 'q'.*a document comes twice",
        ),
        (
            '{"kvasir_result": 1, "per_query": {"q": {"text": "", "seconds": null, "qrels": {"a": 1},'
            ' "documents": [["a", NaN]]}}}',
            "query 'q'.*not a number",
        ),
        ("\n\n", "bad.json holds no result"),
        ("q Q0 a 1 2.0 t\nq Q0 b 2 1", "bad.json, line 2: 5 columns"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_by_name(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InvalidInput, match=says):
        load_systems([tmp_path / "bad.json"])


def test_what_cannot_be_compared_is_refused(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, two, qrels = files
    for arguments, says in [
        ((one,), "one system alone"),
        ((one, one), "is given twice"),
        ((one, two), "TREC runs hold no judgements"),
        ((one, write_run(tmp_path / "other", {"z": "a"}), "--qrels", qrels), "no query of 'other' is judged"),
        (
            (
                write_result(tmp_path / "r.json", ONE),
                write_result(tmp_path / "s.json", {"q1": "a"}, {"q1": {"a": 1}}),
            ),
            r"different judgements \(4 and 1 queries\)",
        ),
        ((one, two, "--qrels", qrels, "--confidence", 1.5), "confidence = 1.5"),
        ((one, two, "--qrels", qrels, "--resamples", 3), "resamples = 3"),
    ]:
        with pytest.raises(InvalidInput, match=says):
            compared(*arguments)


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name / "run.trec", ONE)
    systems = load_systems([tmp_path / "a" / "run.trec", tmp_path / "b" / "run.trec"])
    assert [system.name for system in systems] == [str(tmp_path / name / "run.trec") for name in ("a", "b")]


def test_lines_in_another_order_are_the_same_comparison(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, two, qrels = files
    turned = tmp_path / "turned" / "two.trec"
    turned.parent.mkdir()
    turned.write_text("\n".join(reversed(two.read_text().splitlines())))
    assert compared(one, turned, "--qrels", qrels) == compared(one, two, "--qrels", qrels)


def test_published_lists_of_trec_dl19_are_told_apart() -> None:
    pool = shared_data("trec-dl19-pool")
    files = [pool / "runs" / f"{name}.trec" for name in ("BM25", "BM25_RM3", "D_BERT_KD_TASB")]
    said = compare_files(files, "nDCG@10", data=pool, rules=Rules(resamples=5000))
    by_names = {(pair.before, pair.after): pair for pair in said.pairs}
    dense, expanded = by_names["BM25", "D_BERT_KD_TASB"], by_names["BM25", "BM25_RM3"]
    assert dense.tested.mean == pytest.approx(0.7210 - 0.5058, abs=0.0001)
    assert dense.randomised_corrected < 0.01 < expanded.randomised_corrected
    assert dense.tested.low > 0
    assert all(change.text for change in dense.changed)


def test_a_measure_named_twice_is_tested_once(files: tuple[Path, Path, Path]) -> None:
    one, two, qrels = files
    once = compared(one, two, "--qrels", qrels, "-m", "RR@10 P@1")
    assert compared(one, two, "--qrels", qrels, "-m", "RR@10,P@1 RR@10") == once
    assert once["tests"] == 2


def with_facts(file: Path, **said: object) -> Path:
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
    return file


def test_what_a_file_says_of_its_figures_stands_beside_them(tmp_path: Path) -> None:
    one, two = write_result(tmp_path / "one.json", ONE), write_result(tmp_path / "two.json", TWO)
    with_facts(two, notes=["TUNED ON THIS SPLIT"])
    assert compared(one, two, "-m", "RR@10")["notes"] == ["two: TUNED ON THIS SPLIT"]
    assert "two: TUNED ON THIS SPLIT" in run("compare", one, two, "-m", "RR@10")


def test_a_measure_below_the_rank_where_lists_end_is_refused(tmp_path: Path) -> None:
    one, two = write_result(tmp_path / "one.json", ONE), write_result(tmp_path / "two.json", TWO)
    with_facts(two, depth=10)
    assert compared(one, two, "-m", "R@10")["tests"] == 1
    with pytest.raises(InvalidInput, match=r"R@11 looks at 11 documents, two holds the best 10 .*--depth 11"):
        compared(one, two, "-m", "R@10 R@11")
    with pytest.raises(InvalidInput, match="LitSearchNDCG@12 looks at 12"):
        compared(one, two, "-m", "LitSearchNDCG@12")
    with_facts(two, reranker="icr")  # which leaves those below its depth where they were
    assert compared(one, two, "-m", "R@11")["tests"] == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"latency_ms": None}, r"\$.latency_ms"),
        ({"latency_ms": {"p50": "fast"}}, r"\$.latency_ms.p50"),
        ({"notes": None}, r"\$.notes"),
        ({"notes": [1]}, r"\$.notes\[0\]"),
        ({"build": {"seconds": 3.0}}, r"\$.build.seconds"),
        ({"stages_ms": [1]}, r"\$.stages_ms"),
        ({"dataset": 5}, r"\$.dataset"),
        ({"cache_share": "0.5"}, r"\$.cache_share"),
        ({"peak_memory_mb": -1}, r"\$.peak_memory_mb"),
        ({"work": 1}, r"\$.work"),
        ({"depth": 0}, r"\$.depth"),
        ({"per_query": {"q": []}}, "query 'q': Expected `object`"),
        ({"per_query": {"q": {"text": 1, "seconds": None, "qrels": {"a": 1}, "documents": []}}}, r"'q'.*\$.text"),
        ({"per_query": {"q": {"text": "", "seconds": "1", "qrels": {"a": 1}, "documents": []}}}, r"'q'.*\$.seconds"),
        ({"per_query": {"q": {"text": "", "seconds": 1, "qrels": {"a": "1"}, "documents": []}}}, r"'q'.*\$.qrels"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "report"])
def test_a_field_of_another_form_is_named_in_one_line(
    tmp_path: Path, command: str, wrong: dict[str, object], field: str
) -> None:
    bad = with_facts(write_result(tmp_path / "bad.json", ONE), **wrong)
    with pytest.raises(InvalidInput, match=f"bad.json.*{field}.*--result FILE") as told:
        run(
            command,
            bad,
            write_result(tmp_path / "two.json", TWO),
            *(("--out", tmp_path) if command == "report" else ()),
        )
    assert "\n" not in str(told.value)
