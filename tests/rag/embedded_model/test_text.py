"""What text is taken: licences, prose, docstrings, collections."""

from __future__ import annotations

import json
from email.message import Message
from pathlib import Path

import pytest

from rag.embedded_model.documentation import docstrings, documentation
from rag.embedded_model.licences import Package, permissive
from rag.embedded_model.open_collections import open_collections
from rag.embedded_model.prose import cleaned, is_prose, pieces

PROSE = (
    "The cache keeps what was read from the disk, so that it is not read again when another caller asks for the same "
    "page. It is emptied when the file changes, and when there is no more room for new pages."
)


def _metadata(*headers: tuple[str, str]) -> Message:
    message = Message()
    for name, value in headers:
        message[name] = value
    return message


@pytest.mark.parametrize(
    "headers",
    [
        [("License-Expression", "MIT")],
        [("License-Expression", "Apache-2.0 OR BSD-3-Clause")],
        [("License-Expression", "BSD-3-Clause AND ISC"), ("License", "GPL")],
        [("Classifier", "License :: OSI Approved :: BSD License")],
        [("Classifier", "License :: OSI Approved :: Apache Software License")],
        [("License", "MIT License\n\nCopyright")],
        [("License", "Apache 2.0")],
    ],
)
def test_permissive_licences_are_allowed(headers: list[tuple[str, str]]) -> None:
    assert permissive(_metadata(*headers))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("License", "")],
        [("License-Expression", "GPL-3.0-or-later")],
        [("License-Expression", "MIT AND GPL-2.0-only")],
        [("License-Expression", "MPL-2.0")],
        [("Classifier", "License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)")],
        [
            ("Classifier", "License :: OSI Approved :: MIT License"),
            ("Classifier", "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"),
        ],
        [("License", "MITRE terms")],
        [("License", "Proprietary")],
    ],
)
def test_other_licences_and_none_are_not(headers: list[tuple[str, str]]) -> None:
    assert not permissive(_metadata(*headers))


def test_prose_is_told_from_code_and_tables() -> None:
    assert is_prose(PROSE)
    assert not is_prose("x = {1: 2, 3: 4}; y = [i ** 2 for i in range(10)]; z[0] += 1; print(x, y, z)")
    assert not is_prose("float32 int64 uint8 bfloat16 complex128 bool object datetime64 timedelta64")


def test_cleaning_drops_code_fences_links_and_roles() -> None:
    page = f"# A heading\n\n```python\nimport os\n```\n\n{PROSE} See [the guide](https://x.org/y) and :class:`~a.B`."
    page += "\n\n>>> f(1)\n2"
    text = cleaned(page)
    assert text == f"{PROSE} See the guide and a.B."


def test_pieces_are_cut_between_sentences() -> None:
    assert pieces("Too short.") == []
    long = " ".join([PROSE] * 20)
    found = pieces(long)
    assert len(found) > 1
    assert "".join(found) == long


def test_docstrings_are_parsed_not_run() -> None:
    source = f'raise SystemExit\nclass Cache:\n    """{PROSE}"""\n    def get(self): "Short."\n'
    (found,) = docstrings(source, "store")
    assert found.title == "store.Cache"
    assert found.text == PROSE
    assert list(docstrings("def broken(", "x")) == []


def test_equal_texts_are_kept_once_and_a_package_gives_no_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag.embedded_model.documentation._standard_library", lambda: iter(()))
    monkeypatch.setattr("rag.embedded_model.documentation.PER_PACKAGE", 3)
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text("".join(f'def f{i}():\n    """{PROSE} It was seen {i} times."""\n' for i in range(9)))
    second.write_text(f'"""{PROSE} It was seen 0 times."""')
    found = documentation([Package("one", "1", "MIT", (first,)), Package("two", "1", "MIT", (second,))])
    assert len(found.passages) == 3
    assert len({each.text for each in found.passages}) == 3
    assert "one 1: MIT (3 passages)" in found.licences


def test_of_a_collection_passages_and_train_queries_are_read_and_nothing_of_the_others(tmp_path: Path) -> None:
    for name in ("scifact", "hotpotqa-hippo-train", "trec-dl19-pool"):
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        row = {"_id": "d1", "title": "A title", "text": "One sentence. Another sentence."}
        (folder / "corpus.jsonl").write_text(json.dumps(row) + "\n")
        (folder / "queries.jsonl").write_text(json.dumps({"_id": "t", "text": "a test query"}) + "\n")
        (folder / "queries.train.jsonl").write_text(
            "".join(
                json.dumps({"_id": i, "text": t}) + "\n" for i, t in (("7", "a train query"), ("8", "A test query."))
            )
        )
        for split in ("train", "test"):
            (folder / "qrels" / f"{split}.tsv").write_text(
                "query-id\tcorpus-id\tscore\n7\td1\t1\n8\td1\t1\n7\tgone\t1\n"
            )
    found = {each.name: each for each in open_collections(tmp_path)}
    assert set(found) == {"scifact", "hotpotqa-hippo-train"}
    assert [(q.text, q.relevant) for q in found["scifact"].questions] == [("a train query", (0,))]
    assert not found["hotpotqa-hippo-train"].questions
    assert found["scifact"].passages[0].shown == "A title\nOne sentence. Another sentence."
