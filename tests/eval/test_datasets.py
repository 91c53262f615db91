"""Foreign layouts become BEIR folders that say the same; known sets are counted; LitSearch's own nDCG by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from eval.beir import Dataset, read_folder, unjudged
from eval.datasets.catalog import COLLECTIONS, Counts, find, mismatches, splits
from eval.datasets.litsearch import import_litsearch
from eval.datasets.questions import answers, import_questions
from eval.measures import parse_measures, score
from eval.trec import Scored
from rag.errors import InvalidInput, SourceError
from tests.data import shared_data
from tests.eval.test_cli import run

PAPERS = [
    {"corpusid": 11, "title": "Cats", "abstract": "On cats.", "citations": [12], "full_paper": "Cats. On cats. Purr."},
    {"corpusid": 12, "title": "Dogs", "abstract": "On dogs.", "citations": [], "full_paper": "Dogs. On dogs. Bark."},
    {"corpusid": 13, "title": "Fish", "abstract": None, "citations": [], "full_paper": "Fish. Swim."},
]
ASKED = [
    {"query_set": "inline_acl", "query": "Work on cats?", "specificity": 1, "quality": 2, "corpusids": [11]},
    {"query_set": "manual_iclr", "query": "Work on pets?", "specificity": 0, "quality": 1, "corpusids": [12, 11]},
]
S2ORC = [
    {
        "corpusid": 11,
        "externalids": {"acl": "x"},
        "content": {"text": "Cats\nPurr.", "annotations": {"title": '[{"start": 0, "end": 4}]', "abstract": None}},
    },
    {"corpusid": 12, "externalids": {"acl": None}, "content": {"text": "Bark.", "annotations": {"title": None}}},
]


def tables(folder: Path, form: str) -> Path:
    """A folder as LitSearch is published, in parquet in parts, or in JSON Lines."""
    folder.mkdir()
    for name, rows in (("query", ASKED), ("corpus_clean", PAPERS), ("corpus_s2orc", S2ORC)):
        if form == "parquet":
            (folder / name).mkdir()
            for part, piece in enumerate((rows[:1], rows[1:])):
                pq.write_table(pa.Table.from_pylist(piece), folder / name / f"full-0000{part}-of-00002.parquet")
        else:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def corpus(folder: Path) -> dict[str, tuple[str, str]]:
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    return {row["_id"]: (row["title"], row["text"]) for row in rows}


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_litsearch_becomes_a_folder_with_its_splits(tmp_path: Path, form: str) -> None:
    source, out = tables(tmp_path / "published", form), tmp_path / "litsearch"
    run("import", "litsearch", source, out)
    assert corpus(out) == {"11": ("Cats", "On cats."), "12": ("Dogs", "On dogs."), "13": ("Fish", "")}
    whole = read_folder(out, "test")
    assert whole.queries == {"q1": "Work on cats?", "q2": "Work on pets?"}
    assert whole.qrels == {"q1": {"11": 1}, "q2": {"12": 1, "11": 1}}
    assert read_folder(out, "specific").qrels == {"q1": {"11": 1}} == read_folder(out, "inline_acl").qrels
    assert set(read_folder(out, "broad").qrels) == {"q2"} == set(read_folder(out, "manual_iclr").qrels)
    crossed = {"inline-specific": {"q1"}, "manual-broad": {"q2"}}
    assert {split: set(read_folder(out, split).qrels) for split in crossed} == crossed
    first = json.loads((out / "queries.jsonl").read_text().splitlines()[0])
    assert first["metadata"] == {"query_set": "inline_acl", "specificity": 1, "quality": 2}


def test_a_paper_may_be_its_full_text_of_either_table(tmp_path: Path) -> None:
    source = tables(tmp_path / "published", "parquet")
    import_litsearch(str(source), tmp_path / "full", text="full")
    assert corpus(tmp_path / "full")["11"] == ("Cats", "Cats. On cats. Purr.")
    import_litsearch(str(source), tmp_path / "s2orc", text="s2orc")
    assert corpus(tmp_path / "s2orc") == {"11": ("Cats", "Cats\nPurr."), "12": ("", "Bark.")}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"specificity": 7}, r"query.jsonl, line 1: specificity 7; it is 0, broad, or 1"),
        ({"specificity": [0]}, r"query.jsonl, line 1: specificity \[0\]; it is 0, broad, or 1"),
        ({"corpusids": 1}, r"query.jsonl, line 1: corpusids 1; it is a list"),
        ({"corpusids": [{}]}, r"query.jsonl, line 1: corpusids \[{}\]; it is a list"),
        ({"query_set": "../../../escaped"}, r"query.jsonl, line 1: query_set '../../../escaped'; it becomes"),
        ({"query_set": "a/b"}, "query_set 'a/b'; it becomes the name of a split"),
        ({"query_set": "broad"}, "query_set 'broad'; .*neither test nor broad"),
        ({"query_set": "inline-Broad"}, "query_set 'inline-Broad'; .*nor ending in"),
        ({"query_set": "a" * 65}, "at most 64"),
        ({"query_set": 7}, "query_set 7; it becomes"),
        ({"corpusids": None}, r"query.jsonl, line 1 has no 'corpusids'; it has"),
    ],
)
def test_a_broken_table_leaves_nothing_behind(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    source = tables(tmp_path / "published", "jsonl")
    (source / "query.jsonl").write_text(json.dumps(ASKED[0] | change) + "\n")
    with pytest.raises(InvalidInput, match=says):
        import_litsearch(str(source), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


@pytest.mark.parametrize(
    ("name", "text", "change"),
    [
        ("corpus_clean", "abstract", {"abstract": 7}),
        ("corpus_clean", "abstract", {"title": ["Cats"]}),
        ("corpus_s2orc", "s2orc", {"content": "Cats"}),
        ("corpus_s2orc", "s2orc", {"content": {"text": "Cats", "annotations": ["title"]}}),
    ],
)
def test_a_broken_paper_is_named_by_its_line(tmp_path: Path, name: str, text: Any, change: dict[str, Any]) -> None:
    source = tables(tmp_path / "published", "jsonl")
    row = json.loads((source / f"{name}.jsonl").read_text().splitlines()[0])
    (source / f"{name}.jsonl").write_text(json.dumps(row | change))
    with pytest.raises(InvalidInput, match=f"{name}.jsonl, line 1: "):
        import_litsearch(str(source), tmp_path / "out", text=text)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no table 'corpus_clean'"):
        import_litsearch(str(tmp_path / "empty"), tmp_path / "out")
    with pytest.raises(SourceError, match="no folder '/nowhere'"):
        import_litsearch("/nowhere", tmp_path / "out")
    (tmp_path / "empty" / "corpus_clean.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match="as parquet"):
        import_litsearch(str(tmp_path / "empty"), tmp_path / "out")
    with pytest.raises(InvalidInput, match="is there already"):
        import_litsearch(str(tables(tmp_path / "published", "jsonl")), tmp_path / "empty")


def test_litsearchs_own_ndcg_by_hand_beside_the_standard_one() -> None:
    """Relevant at ranks 2 and 3 of three: (1/2 + 1/3) / (1 + 1/2 + 1/3); a cut at 2 leaves the ideal as it is."""
    qrels, run_ = {"q": {"a": 1, "b": 2, "c": 1, "d": 0}}, {"q": [Scored(name, 1.0) for name in ("x", "a", "b", "d")]}
    found = score(qrels, run_, parse_measures("LitSearchNDCG@10 LitSearchNDCG@2 R@2")).values
    assert found == {
        "LitSearchNDCG@10": pytest.approx((1 / 2 + 1 / 3) / (1 + 1 / 2 + 1 / 3)),
        "LitSearchNDCG@2": pytest.approx((1 / 2) / (1 + 1 / 2 + 1 / 3)),
        "R@2": pytest.approx(1 / 3),
    }
    assert list(found) == ["LitSearchNDCG@10", "LitSearchNDCG@2", "R@2"]


def test_litsearchs_own_ndcg_counts_missing_queries_and_those_without_relevant_documents_as_zero() -> None:
    qrels = {"p": {"a": 1}, "q": {"a": 1}, "r": {"a": 0}}
    found = score(qrels, {"p": [Scored("a", 1.0)], "r": [Scored("a", 1.0)]}, parse_measures("LitSearchNDCG@5"))
    assert found.values == {"LitSearchNDCG@5": pytest.approx(1 / 3)}


HOTPOT = {
    "_id": "h1",
    "question": "Who?",
    "answer": "Ada",
    "context": [["A", ["One. ", "Two."]], ["B", ["Three."]]],
    "supporting_facts": [["B", 0]],
}
MUSIQUE = {
    "id": "m1",
    "question": "Where?",
    "answer": "Rome",
    "answer_aliases": ["Roma"],
    "answerable": True,
    "paragraphs": [
        {"title": "A", "paragraph_text": "One.", "is_supporting": True},
        {"title": "B", "paragraph_text": "Two.", "is_supporting": False},
    ],
}
PUBMED = {"pubid": 7, "question": "Does it?", "context": {"contexts": ["One.", "Two."]}, "final_decision": "maybe"}
OWN = {"id": "o1", "question": "What?", "answers": [], "paragraphs": [{"text": "One."}], "support": [0]}


@pytest.mark.parametrize(
    ("form", "row", "documents", "qrels", "said"),
    [
        ("hotpotqa", HOTPOT, {"d1": ("A", "One. Two."), "d2": ("B", "Three.")}, {"h1": {"d2": 1}}, [("h1", ["Ada"])]),
        ("2wiki", HOTPOT, {"d1": ("A", "One. Two."), "d2": ("B", "Three.")}, {"h1": {"d2": 1}}, [("h1", ["Ada"])]),
        (
            "musique",
            MUSIQUE,
            {"d1": ("A", "One."), "d2": ("B", "Two.")},
            {"m1": {"d1": 1}},
            [("m1", ["Rome", "Roma"])],
        ),
        (
            "musique",
            MUSIQUE | {"answerable": False},
            {"d1": ("A", "One."), "d2": ("B", "Two.")},
            {"m1": {"d1": 1}},
            [("m1", [])],
        ),
        ("pubmedqa", PUBMED, {"d1": ("", "One.\nTwo.")}, {"7": {"d1": 1}}, [("7", ["maybe"])]),
        ("questions", OWN, {"d1": ("", "One.")}, {"o1": {"d1": 1}}, [("o1", [])]),
    ],
)
def test_questions_with_paragraphs_become_a_folder(
    tmp_path: Path, form: str, row: dict[str, Any], documents: object, qrels: object, said: object
) -> None:
    (tmp_path / "set.jsonl").write_text(json.dumps(row) + "\n")
    run("import", form, tmp_path / "set.jsonl", tmp_path / "out")
    assert corpus(tmp_path / "out") == documents
    assert read_folder(tmp_path / "out", "test").qrels == qrels
    assert list(answers(tmp_path / "out" / "queries.jsonl")) == said


def test_a_paragraph_of_two_questions_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text(json.dumps([HOTPOT, HOTPOT | {"_id": "h2"}]))
    assert import_questions("hotpotqa", tmp_path / "set.json", tmp_path / "out") == 2
    assert read_folder(tmp_path / "out", "test").qrels == {"h1": {"d2": 1}, "h2": {"d2": 1}}


def test_a_question_that_nothing_supports_survives_without_a_judgement(tmp_path: Path) -> None:
    lost = OWN | {"id": "o2", "question": "Lost?", "support": []}
    (tmp_path / "set.jsonl").write_text(f"{json.dumps(OWN)}\n{json.dumps(lost)}\n")
    import_questions("questions", tmp_path / "set.jsonl", tmp_path / "out")
    made = read_folder(tmp_path / "out", "test")
    assert (dict(made.queries), made.qrels) == ({"o1": "What?"}, {"o1": {"d1": 1}})
    assert unjudged(made) == {"o2": "Lost?"}


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({"answer": "Paris"}, ["Paris"]),
        ({"answers": "Paris"}, ["Paris"]),
        ({"answers": ["Paris", "Lutetia"], "answer": "Rome"}, ["Paris", "Lutetia"]),
        ({"answers": []}, []),
        ({"answer": None}, []),
    ],
)
def test_an_answer_may_be_a_string_and_several_a_list(tmp_path: Path, given: dict[str, Any], known: list[str]) -> None:
    own = {key: value for key, value in OWN.items() if key != "answers"} | given
    (tmp_path / "set.jsonl").write_text(json.dumps(own))
    import_questions("questions", tmp_path / "set.jsonl", tmp_path / "out")
    assert list(answers(tmp_path / "out" / "queries.jsonl")) == [("o1", known)]
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "?", "metadata": given}))
    assert list(answers(tmp_path / "queries.jsonl")) == [("q", known)]


@pytest.mark.parametrize("metadata", [{"answers": 7}, {"answers": ["a", 7]}, {"answer": {"a": 1}}, "answers"])
def test_answers_of_another_type_are_refused_by_their_line(tmp_path: Path, metadata: Any) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_text("\n" + json.dumps({"_id": "q", "text": "?", "metadata": metadata}))
    with pytest.raises(InvalidInput, match=r"queries.jsonl, line 2: .*; write"):
        list(answers(file))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps(OWN | {"answers": [None]}), r"line 1: \[None\] as answers; write a string"),
        (json.dumps(OWN) + "\n" + json.dumps(OWN), "line 2: question 'o1' comes twice"),
        (json.dumps(OWN | {"support": [1]}), "line 1: paragraph 1 is said to support, there are 1"),
        (json.dumps(OWN | {"support": []}), "no question with a paragraph that supports"),
        (json.dumps(OWN | {"paragraphs": [{}]}), "line 1 is not of that form"),
        ("{}", "line 1 has no 'id'"),
        ("[1]", "row 1 is no object"),
        ("{", "line 1 is no JSON"),
    ],
)
def test_a_broken_question_is_named_by_its_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "set.jsonl").write_text(text)
    with pytest.raises(InvalidInput, match=says):
        import_questions("questions", tmp_path / "set.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_known_sets_are_listed_with_their_counts() -> None:
    said = {(row["name"], row["split"]): row for row in json.loads(run("datasets", "--json"))}
    first = said["scifact", "test"]
    assert (first["documents"], first["judged_queries"], first["judgements"]) == (5183, 300, 339)
    assert said["litsearch", "test"]["judged_queries"] == 597
    assert said["nfcorpus", "train"]["judged_queries"] == 2590
    sets = {name.split("-")[0] if name.startswith("cqadupstack") else name for name, _ in said}
    assert len({name for name in sets if "trec-dl" not in name and name not in ("litsearch", "msmarco")}) == 18
    assert all(row["licence"] for row in said.values())


def test_a_set_is_found_by_its_folder_or_its_id() -> None:
    assert find("beir/cqadupstack/tex") == find("cqadupstack-tex")
    assert find("my-own-set") is None
    assert all(find(known.name) == known for known in COLLECTIONS)


def test_counts_that_are_not_the_published_ones_are_said(tmp_path: Path) -> None:
    cut = Dataset("scifact", "test", tmp_path, {}, {"1": {"2": 1}})
    assert mismatches(cut, 5183) == [
        "scifact test has 1 judged queries, published are 300: figures of others do not compare",
        "scifact test has 1 judgements, published are 339: figures of others do not compare",
    ]
    assert mismatches(Dataset("tiny", "test", tmp_path, {}, {}), 5) == []
    robust = find("robust04")
    assert robust is not None
    assert splits(robust) == {"test": Counts(None, None, None)}


def test_the_real_scifact_has_the_published_counts() -> None:
    for split in ("test", "train"):
        assert mismatches(read_folder(shared_data("scifact"), split), 5183) == []
