"""Test collections are read from BEIR folders, or brought into one from ir_datasets."""

from __future__ import annotations

import json
from pathlib import Path

import ir_datasets
import pytest

from eval.beir import dataset_id, load_dataset
from eval.datasets.catalog import COLLECTIONS, splits
from rag.errors import InvalidInput, SourceError


def append(file: Path, line: str) -> None:
    file.write_text(f"{file.read_text()}{line}\n")


def test_a_folder_is_read_with_the_judged_queries_only(beir_folder: Path, tmp_path: Path) -> None:
    append(beir_folder / "queries.jsonl", json.dumps({"_id": "unjudged", "text": "x"}))
    dataset = load_dataset(str(beir_folder), "test", store=tmp_path)
    assert (dataset.name, dataset.collection, dataset.path) == ("tiny", "beir-tiny", beir_folder)
    assert set(dataset.queries) == {"q1", "q2", "moon"}
    assert dataset.qrels["q1"] == {"cat": 1}


def test_queries_of_a_split_are_those_of_both_files(beir_folder: Path, tmp_path: Path) -> None:
    (beir_folder / "queries.train.jsonl").write_text(json.dumps({"_id": "t1", "text": "bread?"}) + "\n")
    (beir_folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nt1\tbread\t1\nq1\tdog\t1\n")
    dataset = load_dataset(str(beir_folder), "train", store=tmp_path)
    assert set(dataset.queries) == {"t1", "q1"}


def test_other_judgements_can_be_given_in_trec_form(beir_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("q2 0 cat 2\n")
    dataset = load_dataset(str(beir_folder), "test", store=tmp_path, qrels=tmp_path / "mine.txt")
    assert (dict(dataset.queries), dataset.qrels) == ({"q2": "Why does the dog bark?"}, {"q2": {"cat": 2}})


@pytest.mark.parametrize(
    ("remove", "says"),
    [
        ("corpus.jsonl", "no corpus.jsonl in"),
        ("queries.jsonl", "no queries.jsonl in"),
        ("qrels/test.tsv", r"splits there: none.*--qrels"),
    ],
)
def test_a_missing_file_is_named(beir_folder: Path, tmp_path: Path, remove: str, says: str) -> None:
    (beir_folder / remove).unlink()
    with pytest.raises(SourceError, match=says):
        load_dataset(str(beir_folder), "test", store=tmp_path)


def test_a_broken_query_is_named_by_its_line(beir_folder: Path, tmp_path: Path) -> None:
    append(beir_folder / "queries.jsonl", '{"_id": "q9"}')
    with pytest.raises(InvalidInput, match=r"queries.jsonl, line 4 is no query"):
        load_dataset(str(beir_folder), "test", store=tmp_path)


def test_judgements_for_other_queries_are_refused(beir_folder: Path, tmp_path: Path) -> None:
    (beir_folder / "qrels" / "test.tsv").write_text("elsewhere\tcat\t1\n")
    with pytest.raises(InvalidInput, match="none of the 1 judged queries has a text"):
        load_dataset(str(beir_folder), "test", store=tmp_path)


def test_a_folder_that_is_not_there_is_not_taken_for_a_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no folder"):
        load_dataset(str(tmp_path / "nowhere"), "test", store=tmp_path)


@pytest.mark.parametrize(
    ("named", "split", "expected"),
    [
        ("scifact", "test", "beir/scifact/test"),
        ("scifact", "train", "beir/scifact/train"),
        ("beir/scifact", "test", "beir/scifact/test"),
        ("beir/scifact/test", "test", "beir/scifact/test"),
        ("arguana", "test", "beir/arguana"),
        ("webis-touche2020", "test", "beir/webis-touche2020"),
        ("cqadupstack/android", "test", "beir/cqadupstack/android"),
        ("cqadupstack-android", "test", "beir/cqadupstack/android"),
        ("beir/cqadupstack-tex", "test", "beir/cqadupstack/tex"),
    ],
)
def test_short_names_mean_the_beir_set_with_its_split(named: str, split: str, expected: str) -> None:
    assert dataset_id(named, split, ir_datasets.registry) == expected


def test_every_listed_set_of_beir_is_found_by_its_name() -> None:
    for known in COLLECTIONS:
        if known.fetched.startswith("beir/"):
            split = next(iter(splits(known)))
            assert dataset_id(known.name, split, ir_datasets.registry).startswith(known.fetched)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(SourceError, match=r"'scifakt'.*did you mean 'scifact'"):
        dataset_id("scifakt", "test", ir_datasets.registry)


def test_an_id_of_another_split_than_the_one_asked_for_is_refused() -> None:
    with pytest.raises(SourceError, match="add --split train"):
        dataset_id("beir/scifact/train", "test", ir_datasets.registry)


def test_a_split_that_a_set_lacks_is_refused() -> None:
    with pytest.raises(SourceError, match=r"split 'dev'.*there is beir/scifact/test"):
        dataset_id("scifact", "dev", ir_datasets.registry)


def test_a_set_of_ir_datasets_becomes_a_folder_that_is_read_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real ir_datasets set over local files stands for one that was downloaded."""
    (tmp_path / "docs.tsv").write_text("d1\tfirst text\nd2\tsecond text\n")
    (tmp_path / "queries.tsv").write_text("q1\tfirst?\n")
    (tmp_path / "qrels").write_text("q1 0 d1 1\n")
    made = ir_datasets.create_dataset(
        docs_tsv=str(tmp_path / "docs.tsv"),
        queries_tsv=str(tmp_path / "queries.tsv"),
        qrels_trec=str(tmp_path / "qrels"),
    )
    monkeypatch.setitem(ir_datasets.registry._registered, "beir/kvasir-tiny/test", made)
    first = load_dataset("kvasir-tiny", "test", store=tmp_path / "store")
    assert (dict(first.queries), first.qrels) == ({"q1": "first?"}, {"q1": {"d1": 1}})
    rows = [json.loads(line) for line in (first.path / "corpus.jsonl").read_text().splitlines()]
    assert rows == [{"_id": "d1", "title": "", "text": "first text"}, {"_id": "d2", "title": "", "text": "second text"}]
    for name in ("docs.tsv", "queries.tsv", "qrels"):
        (tmp_path / name).unlink()
    assert load_dataset("kvasir-tiny", "test", store=tmp_path / "store") == first


def test_a_failed_download_says_what_to_do_and_leaves_no_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ir_datasets.create_dataset(docs_tsv=str(tmp_path / "gone.tsv"), qrels_trec=str(tmp_path / "gone"))
    monkeypatch.setitem(ir_datasets.registry._registered, "beir/kvasir-gone/test", made)
    with pytest.raises(SourceError, match="name that folder instead"):
        load_dataset("kvasir-gone", "test", store=tmp_path / "store")
    assert not list((tmp_path / "store").rglob("*.tsv"))
