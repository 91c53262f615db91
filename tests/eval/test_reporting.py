"""Reports: every form holds the same figures, the page stands alone, and what is text stays text."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.commands import report_files
from eval.comparison import Rules
from eval.reporting.pareto import Point, front
from eval.trec import parse_run
from rag.errors import InvalidInput
from tests.data import shared_data
from tests.eval.test_cli import run
from tests.eval.test_compare import ONE, QRELS, TWO, write_result, write_run

EVIL = '<script>alert("x")</script> $a$ & b_c |'


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    """Two result files with costs, and a run without."""
    files = []
    for name, lists, cost in (("s$5$_50%", TWO, 40.0), ("fast", ONE, 10.0)):
        file = write_result(tmp_path / f"{name}.json", lists)
        said = json.loads(file.read_text())
        said |= {
            "dataset": "tiny",
            "split": "dev",
            "latency_ms": {"p50": cost, "p95": 2 * cost},
            "stages_ms": {"bm25": 2.0, "icr": cost - 2},
            "work": {"prefill_tokens": 100 * cost, "decoded_tokens": 0.0},
            "command": "kvasir-eval beir tiny",
            "commit": "abc123",
            "hardware": "two cores",
            "versions": {"torch": "2.9"},
            "notes": [EVIL],
        }
        said["per_query"]["q4"]["text"] = EVIL
        file.write_text(json.dumps(said))
        files.append(file)
    return [*files, write_run(tmp_path / "bare.trec", {"q1": "a"})]


@pytest.fixture
def written(results: list[Path], tmp_path: Path) -> Path:
    run("report", *results, "--out", tmp_path / "out", "-m", "RR@10 P(rel=2)@1 R@5")
    return tmp_path / "out"


class Page(HTMLParser):
    """Notes tags, addresses and words; an unclosed or crossed tag is an error."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_stands_alone_and_text_stays_text(written: Path) -> None:
    text = (written / "report.html").read_text()
    page = Page(text)
    assert "script" not in page.seen
    assert EVIL in page.words
    assert all(address.startswith("#") for address in page.addresses)  # places in a drawing, nothing outside
    assert not re.search(r"url\((?!['\"]?#)|@import", text)
    assert page.seen.count("svg") == 4


def test_all_forms_hold_the_same_figures(written: Path) -> None:
    expected = {"s$5$_50%": 1.0, "fast": (1 + 1 / 2 + 1 + 1 / 3) / 4, "bare": 1 / 4}
    page, text = Page((written / "report.html").read_text()).words, (written / "report.md").read_text()
    table = (written / "table.tex").read_text()
    with (written / "systems.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    for name, value in expected.items():
        assert float(rows[name]["RR@10"]) == pytest.approx(value)
        for form in (page, text, table):
            assert f"{value:.4f}" in form
        stem = re.sub(r"[$%]", "-", name).strip("-")
        mteb = json.loads((written / "mteb" / f"{stem}.json").read_text())
        (entry,) = mteb["scores"]["dev" if name != "bare" else "test"]
        assert entry["main_score"] == entry["mrr_at_10"] == pytest.approx(value)
        assert {"P(rel=2)@1", "recall_at_5"} <= set(entry)
    with (written / "queries.csv").open() as file:
        queries = list(csv.DictReader(file))
    assert len(queries) == 3 * 4 * 3
    assert sum(float(row["value"]) for row in queries if (row["name"], row["measure"]) == ("fast", "RR@10")) / 4 == (
        pytest.approx(expected["fast"])
    )


def test_written_runs_are_read_as_the_same_orders(written: Path) -> None:
    read = parse_run((written / "runs" / "fast.trec").read_text().splitlines(), "fast")
    assert {query: " ".join(d.doc_id for d in documents) for query, documents in read.items()} == ONE


def test_latex_escapes_what_it_would_run(written: Path) -> None:
    table = (written / "table.tex").read_text()
    assert r"s\$5\$\_50\%" in table
    assert table.count(r"\\") == 4  # a heading and three systems
    assert table.count("{") == table.count("}")


def test_the_best_value_is_strong_and_what_was_not_measured_is_a_dash(written: Path) -> None:
    lines = (written / "report.md").read_text().splitlines()
    assert any(line.startswith("| a s$5$\\_50% | **1.0000** ") for line in lines)
    assert any(re.match(r"\| bare \| - \| - \|", line) for line in lines)
    assert any("3 judged queries have no result" in line for line in lines)


def test_every_image_of_the_markdown_is_there_and_is_xml(written: Path) -> None:
    named = re.findall(r"\]\((.*?)\)", (written / "report.md").read_text())
    assert named == ["quality-latency.svg", "quality-tokens.svg", "differences.svg", "stages.svg"]
    for name in named:
        root = ElementTree.fromstring((written / name).read_text())
        assert root.tag.endswith("svg")
    drawn = "".join(ElementTree.fromstring((written / "quality-latency.svg").read_text()).itertext())
    assert "s$5$_50%" in drawn
    assert "bare" not in drawn


def test_the_same_files_give_the_same_report(results: list[Path], written: Path, tmp_path: Path) -> None:
    report_files(results, tmp_path / "again", "RR@10 P(rel=2)@1 R@5", rules=Rules())
    for file in sorted(written.rglob("*.*")):
        assert (tmp_path / "again" / file.relative_to(written)).read_bytes() == file.read_bytes()


def test_a_single_run_is_reported_without_tests(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text(QRELS)
    files = report_files(
        [write_run(tmp_path / "one.trec", ONE)], tmp_path / "out", "RR@10", qrels=tmp_path / "qrels", rules=Rules()
    )
    assert "comparison.json" not in {file.name for file in files}
    assert "Differences" not in files[0].read_text()


def test_ids_that_no_run_can_hold_leave_the_report_whole(tmp_path: Path) -> None:
    file = write_result(tmp_path / "one.json", {}, {"a query": {"a": 1}})
    said = json.loads(file.read_text())
    said["per_query"]["a query"]["documents"] = [["a", 1.0]]
    file.write_text(json.dumps(said))
    (page, *others) = report_files([file], tmp_path / "out", "RR@10", rules=Rules())
    assert "no TREC run was written" in page.read_text()
    assert not [other for other in others if other.suffix == ".trec"]


def test_there_must_be_a_place_for_the_report(results: list[Path], tmp_path: Path) -> None:
    for out, says in ((results[0], "is a file"), (tmp_path / "no" / "out", "make it first")):
        with pytest.raises(InvalidInput, match=says):
            report_files(results, out, "RR@10", rules=Rules())


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(POINTS)
def test_the_front_is_what_no_point_dominates(places: list[tuple[int, int]]) -> None:
    points = [Point(str(number), *place) for number, place in enumerate(places)]
    alone = [
        one
        for one in points
        if not any(
            other.cost <= one.cost and other.quality >= one.quality and (other[1:] != one[1:]) for other in points
        )
    ]
    assert sorted(front(points)) == sorted(alone)


def test_letters_name_whom_a_value_is_significantly_above() -> None:
    pool = shared_data("trec-dl19-pool")
    from eval.commands import judged_by
    from eval.measures import parse_measures
    from eval.reporting.content import content
    from eval.systems import load_systems

    systems = load_systems([pool / "runs" / f"{name}.trec" for name in ("BM25", "BM25_RM3", "D_BERT_KD_TASB")])
    qrels, queries = judged_by(None, pool, "test")
    said = content(systems, parse_measures("nDCG@10"), qrels=qrels, queries=queries, rules=Rules())
    assert [said.beats(name, "nDCG@10") for name in said.names] == [[], [], ["a", "b"]]
