"""Files that are damaged, foreign or cut short: an error that names file and line, or figures with a note."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.beir import read_folder, read_qrels
from eval.commands import score_run
from rag.errors import InvalidInput, SourceError
from tests.eval.conftest import write_beir
from tests.eval.test_cli import run

QRELS = "p 0 a 1\nq 0 a 1\n"
RUN = "p Q0 a 1 2.0 t\nq Q0 b 1 2.0 t\n"


def scored(tmp_path: Path, qrels: str, listed: str) -> list[str]:
    """The notes of scoring the two files' content."""
    (tmp_path / "qrels").write_text(qrels)
    (tmp_path / "run").write_text(listed)
    return list(score_run(tmp_path / "qrels", tmp_path / "run", "nDCG@10").notes)


@pytest.mark.parametrize(
    ("qrels", "listed", "says"),
    [
        (QRELS, RUN.replace(" ", ","), "run, line 1: 1 columns"),
        (QRELS, RUN.replace(" ", ";"), "run, line 1: 1 columns"),
        (QRELS, RUN + "q Q0 a 2 1.5", "run, line 3: 5 columns"),  # cut off while it was written
        (QRELS, RUN + "q Q0 b 2 1.5 t\n", "run, line 3: document 'b' comes twice for query 'q'"),
        (QRELS, RUN + "q Q0 a 2 NaN t\n", "run, line 3: the score 'NaN' is not finite"),
        (QRELS, RUN + "q Q0 a 2 -inf t\n", "run, line 3: the score '-inf' is not finite"),
        (QRELS, RUN + "q Q0 a 2 1,5 t\n", "run, line 3: the score '1,5' is no number"),
        (QRELS, "", "run holds no result"),
        (QRELS, "x Q0 a 1 2.0 t\n", "no query of .*run is judged"),
        (QRELS.replace(" ", ","), RUN, "qrels, line 1: 'p,0,a,1' is no judgement"),
        ("p a 1\n", RUN, "qrels, line 1: 'p a 1' is no judgement"),
        (QRELS + "q 0 a 2\n", RUN, "qrels, line 3: 'q' 'a' is judged twice"),
        (QRELS + "q 0 b 0.5\n", RUN, "qrels, line 3: the grade '0.5' is no whole number"),
        ("query-id\tcorpus-id\tscore\n", RUN, "qrels holds no judgement"),
        ("", RUN, "qrels holds no judgement"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused(tmp_path: Path, qrels: str, listed: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        scored(tmp_path, qrels, listed)


@pytest.mark.parametrize(
    ("qrels", "listed", "notes"),
    [
        (QRELS, RUN, []),
        (QRELS, RUN.replace("\n", "\r\n"), []),
        (QRELS.replace(" ", "\t"), RUN.replace(" ", "\t"), []),
        ("\ufeff" + QRELS, "\ufeff" + RUN, []),
        (QRELS, RUN.splitlines()[0], ["run: 1 judged queries have no result and score 0, first 'q'"]),
        (QRELS, RUN + "x Q0 a 1 1 t\n", ["run: 1 queries are not judged and left out, first 'x'"]),
        (
            QRELS + "r 0 a 0\n",
            RUN + "r Q0 a 1 1 t\n",
            ["1 judged queries have no relevant document and count 0, first 'r'"],
        ),
        (
            QRELS,
            RUN.replace("Q0 a", "Q0 other-a"),
            ["run: no document is judged for the query it stands under; are these ids of the same set?"],
        ),
    ],
)
def test_what_changes_how_a_number_reads_is_said(tmp_path: Path, qrels: str, listed: str, notes: list[str]) -> None:
    assert scored(tmp_path, qrels, listed) == notes


def test_the_command_prints_notes_and_counts(tmp_path: Path) -> None:
    scored(tmp_path, QRELS, RUN.splitlines()[0])
    files = ("--qrels", tmp_path / "qrels", "--run", tmp_path / "run")
    assert "1 judged queries have no result" in run("score", *files)
    said = json.loads(run("score", *files, "--json"))
    assert (said["missing_queries"], said["unjudged_queries"], len(said["notes"])) == (1, 0, 1)


def test_bytes_that_are_no_text_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_bytes(b"q 0 caf\xe9 1\n")
    with pytest.raises(SourceError, match=r"cannot read '.*qrels'.*position 7"):
        read_qrels(tmp_path / "qrels")


def test_a_query_with_two_texts_is_refused_and_one_that_is_repeated_is_not(beir_folder: Path) -> None:
    file = beir_folder / "queries.jsonl"
    whole = file.read_text()
    first = whole.splitlines()[0]
    file.write_text(whole + first + "\n")
    assert len(read_folder(beir_folder, "test").queries) == 3
    file.write_text(whole + json.dumps({"_id": json.loads(first)["_id"], "text": "something else"}) + "\n")
    with pytest.raises(InvalidInput, match=r"queries.jsonl, line 4: query 'q1' comes twice"):
        read_folder(beir_folder, "test")


def test_an_empty_split_is_refused(beir_folder: Path) -> None:
    (beir_folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(InvalidInput, match=r"dev.tsv holds no judgement"):
        read_folder(beir_folder, "dev")


def test_judgements_of_documents_that_are_not_there(tmp_path: Path) -> None:
    """One unknown document is said; where all are unknown, it is another set's collection."""
    folder, home = write_beir(tmp_path / "tiny"), tmp_path / "home"
    qrels = tmp_path / "qrels"
    qrels.write_text("q1 0 cat 1\nq1 0 unicorn 1\n")
    said = json.loads(run("beir", folder, "--home", home, "-p", "bm25", "--qrels", qrels, "--json"))
    assert said["unknown_documents"] == 1
    assert any("1 relevant documents are not in the collection" in note for note in said["notes"])
    qrels.write_text("q1 0 unicorn 1\n")
    with pytest.raises(InvalidInput, match="none of the 1 relevant documents is in the collection 'beir-tiny'"):
        run("beir", folder, "--home", home, "-p", "bm25", "--qrels", qrels)
