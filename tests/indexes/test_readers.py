"""Readers give each readable document once, in a fixed order, and report everything they pass over."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from indexes.corpus import Document
from indexes.errors import SourceError
from indexes.readers import jsonl
from indexes.readers.beir import Beir
from indexes.readers.folder import Folder
from indexes.readers.jsonl import Jsonl
from indexes.readers.open_source import Chained, open_source, open_sources
from indexes.readers.python_docs import PythonDocs
from indexes.readers.source import Skipped, Source


def read(source: Source) -> tuple[list[Document], list[Skipped]]:
    skipped: list[Skipped] = []
    return list(source.documents(skipped.append)), skipped


def rows(path: Path, *lines: str | bytes | dict[str, object]) -> Path:
    """The path of a new JSONL file with these lines."""
    encoded = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in encoded) + b"\n")
    return path


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """One small place of every kind, by the reader's class name."""
    (tmp_path / "beir").mkdir()
    rows(tmp_path / "beir/corpus.jsonl", {"_id": "b", "title": "T", "text": "x"}, {"_id": "a", "text": "y"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/b.txt").write_text("b")
    (tmp_path / "folder/a.md").write_text("# a")
    rows(tmp_path / "rows.jsonl", {"id": 2, "text": "two"}, {"id": 1, "text": "one"})
    return {
        "Beir": str(tmp_path / "beir"),
        "Folder": str(tmp_path / "folder"),
        "Jsonl": str(tmp_path / "rows.jsonl"),
    }


@pytest.mark.parametrize("kind", ["Beir", "Folder", "Jsonl"])
def test_every_reader_keeps_the_contract_of_sources(kind: str, places: dict[str, str]) -> None:
    source, again = open_source(places[kind]), open_source(places[kind])
    assert isinstance(source, Source)
    assert type(source).__name__ == kind
    assert places[kind] in source.name
    documents, skipped = read(source)
    assert documents == read(source)[0] == read(again)[0]
    assert source.count() == len(documents) == 2
    assert source.fingerprint() == again.fingerprint()
    assert skipped == []


@pytest.mark.parametrize(("kind", "file"), [("Beir", "corpus.jsonl"), ("Folder", "a.md"), ("Jsonl", "")])
def test_a_fingerprint_changes_with_the_content(kind: str, file: str, places: dict[str, str]) -> None:
    before = open_source(places[kind]).fingerprint()
    with (Path(places[kind]) / file).open("a") as changed:
        changed.write("\n")
    assert open_source(places[kind]).fingerprint() != before


def test_a_row_becomes_a_document_with_its_scalars_as_metadata(tmp_path: Path) -> None:
    row = {
        "_id": "d1",
        "title": "Title",
        "text": "Text",
        "year": 2020,
        "open": True,
        "score": 0.5,
        "tags": ["a", "b"],
        "none": None,
        "nested": {"x": 1},
        "mixed": ["a", None],
        "metadata": {"url": "u", "year": 2021, "deep": {"y": 2}},
    }
    (document,), skipped = read(Jsonl(rows(tmp_path / "x.jsonl", row)))
    assert (document.id, document.title, document.text) == ("d1", "Title", "Text")
    assert document.metadata == {"year": 2021, "open": True, "score": 0.5, "tags": ("a", "b"), "url": "u"}
    assert skipped == []


@pytest.mark.parametrize("key", ["text", "contents", "content", "body"])
def test_the_text_may_stand_under_any_of_four_names(key: str, tmp_path: Path) -> None:
    (document,), _ = read(Jsonl(rows(tmp_path / "x.jsonl", {"id": 7, key: "words"})))
    assert (document.id, document.text, document.metadata) == ("7", "words", {})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json}", "not valid JSON"),
        ('["a"]', "a JSON array, not an object"),
        ('{"text": "t"}', "no id: it stands under _id or id"),
        ('{"id": true, "text": "t"}', "no id: it stands under _id or id"),
        ('{"id": 1.5, "text": "t"}', "no id: it stands under _id or id"),
        ('{"id": "a"}', "no text: it stands under text, contents, content or body"),
        ('{"id": "a", "text": 5}', "text is a JSON number, not a string"),
        ('{"id": "a", "text": "t", "title": ["x"]}', "title is a JSON array, not a string"),
        ('{"id": "a\\u0000b", "text": "t"}', "cannot be stored"),
        ('{"id": "", "text": "t"}', "cannot be stored"),
        ('{"id": "a", "text": "t", "x": NaN}', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (b'{"id": "a", "text": "caf\xe9"}', "not UTF-8 at byte 24 of the line; convert the file to UTF-8"),
    ],
)
def test_a_bad_line_is_reported_by_its_number_and_passed_over(line: str | bytes, reason: str, tmp_path: Path) -> None:
    path = rows(tmp_path / "x.jsonl", "", {"id": "1", "text": "before"}, line, {"id": "2", "text": "after"})
    documents, skipped = read(Jsonl(path))
    assert [document.id for document in documents] == ["1", "2"]
    (report,) = skipped
    assert report.where == f"{path}:line 3"
    assert reason in report.why


def test_blank_lines_and_a_byte_order_mark_are_ignored(tmp_path: Path) -> None:
    path = rows(tmp_path / "x.jsonl", b'\xef\xbb\xbf{"id": "1", "text": "t"}\r', " ", "")
    documents, skipped = read(Jsonl(path))
    assert [document.id for document in documents] == ["1"]
    assert skipped == []


def test_an_unfinished_last_line_counts_as_a_line(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"id": 1, "text": ""}\n{"id": 2, "text": ""}')
    assert Jsonl(tmp_path / "x.jsonl").count() == 2


def test_a_gzipped_file_reads_like_the_plain_one(tmp_path: Path) -> None:
    plain = rows(tmp_path / "x.jsonl", {"id": "1", "text": "t"})
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    packed = open_source(str(tmp_path / "x.jsonl.gz"))
    assert read(packed) == read(Jsonl(plain))
    assert packed.count() is None


def test_a_line_too_long_is_skipped_and_the_next_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 40)
    long = b'{"id": "b", "text": "' + b"x" * 100 + b'"}\n'
    exact = b'{"id": "c", "text": "' + b"y" * 16 + b'"}\n'
    assert len(exact) == 40
    (tmp_path / "x.jsonl").write_bytes(b'{"id": "a", "text": ""}\n' + long + exact + b'{"id": "d", "text": "z"}')
    found, skipped = read(Jsonl(tmp_path / "x.jsonl"))
    assert [document.id for document in found] == ["a", "c", "d"]
    assert [(one.where.rpartition(":")[2], "over the 40 bytes" in one.why) for one in skipped] == [("line 2", True)]


def test_a_gzipped_file_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    """66 MiB of blanks in some tens of KiB: nothing of it is a document, and all of it would be read."""
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress((b" " * (2**20 - 1) + b"\n") * 66))
    with pytest.raises(SourceError, match="unpacks to over 100 times"):
        read(Jsonl(tmp_path / "bomb.jsonl.gz"))


def test_a_file_of_blank_lines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_BLANK", 3)
    (tmp_path / "x.jsonl").write_bytes(b'{"id": "a", "text": ""}\n\n\n\n{"id": "b", "text": ""}')
    assert len(read(Jsonl(tmp_path / "x.jsonl"))[0]) == 2
    (tmp_path / "y.jsonl").write_bytes(b"\n" * 4)
    with pytest.raises(SourceError, match="over 3 blank lines"):
        read(Jsonl(tmp_path / "y.jsonl"))


def test_a_gzipped_file_cut_short_is_an_error_not_a_smaller_corpus(tmp_path: Path) -> None:
    path = rows(tmp_path / "x.jsonl", {"id": "1", "text": "t" * 100})
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(path.read_bytes())[:-12])
    with pytest.raises(SourceError, match="fetch it again"):
        read(Jsonl(tmp_path / "cut.jsonl.gz"))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "library"
    (root / "sub/.git").mkdir(parents=True)
    (root / "b.txt").write_text("plain")
    (root / "a.md").write_text("# Heading\n\nText.")
    (root / "sub/c.html").write_text("<title>Page</title><p>Hello</p>")
    (root / "sub/.git/hidden.txt").write_text("hidden")
    (root / ".hidden.md").write_text("hidden")
    return root


def test_a_folder_is_read_in_the_order_of_its_paths_without_hidden_files(library: Path) -> None:
    documents, skipped = read(Folder(library))
    assert [(document.id, document.title) for document in documents] == [
        ("a.md", "Heading"),
        ("b.txt", "b"),
        ("sub/c.html", "Page"),
    ]
    assert skipped == []


def test_a_file_tells_its_path_format_size_and_age(library: Path) -> None:
    os.utime(library / "b.txt", (86_400, 86_400))
    (document,) = [document for document in read(Folder(library))[0] if document.id == "b.txt"]
    assert document.metadata == {
        "path": "b.txt",
        "format": "txt",
        "bytes": 5,
        "modified": "1970-01-02T00:00:00+00:00",
    }


def test_an_unknown_extension_is_reported_once(library: Path) -> None:
    for name in ("one.xyz", "two.XYZ", "sub/three.xyz", "README"):
        (library / name).write_text("?")
    documents, skipped = read(Folder(library))
    assert len(documents) == 3
    assert [report.where.removeprefix(str(library)) for report in skipped] == [" (3 files)", " (1 file)"]
    assert skipped[0].why.startswith("no reader for .xyz")
    assert skipped[1].why.startswith("no reader for files without an extension")


def test_a_file_that_is_not_utf8_is_reported_with_the_offset(library: Path) -> None:
    (library / "latin.txt").write_bytes(b"caf\xe9")
    documents, (report,) = read(Folder(library))
    assert len(documents) == 3
    assert report == Skipped(
        str(library / "latin.txt"),
        "not UTF-8 at byte 3; convert the file to UTF-8, for example: iconv -f LATIN1 -t UTF-8",
    )


def test_a_file_over_the_bound_is_reported_unread(library: Path) -> None:
    (library / "big.txt").write_text("x" * 40)
    documents, (report,) = read(Folder(library, max_bytes=39))
    assert len(documents) == 3
    assert report == Skipped(str(library / "big.txt"), "40 bytes, over the 39 read at most; split the file")


def test_links_are_followed_only_inside_the_folder(library: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (library / "out.txt").symlink_to(tmp_path / "secret.txt")
    (library / "in.txt").symlink_to(library / "b.txt")
    (library / "loop").symlink_to(library)
    (library / "gone.txt").symlink_to(library / "nowhere.txt")
    documents, skipped = read(Folder(library))
    assert [document.id for document in documents] == ["a.md", "b.txt", "in.txt", "sub/c.html"]
    reasons = {Path(report.where).name: report.why.partition(";")[0] for report in skipped}
    assert reasons == {
        "out.txt": "a link that leaves the folder",
        "loop": "a link to a folder",
        "gone.txt": "cannot be read (No such file or directory)",
    }


def test_a_pipe_is_reported_instead_of_waited_for(library: Path) -> None:
    os.mkfifo(library / "pipe.txt")
    documents, (report,) = read(Folder(library))
    assert len(documents) == 3
    assert report.why.startswith("not a regular file")


@pytest.mark.parametrize("name", ["notes.txt", "notes.MD", "page.htm"])
def test_a_single_file_is_a_source_of_one_document(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("words")
    source = open_source(str(tmp_path / name))
    assert [document.id for document in read(source)[0]] == [name]
    assert source.count() == 1


def test_a_kind_can_be_forced(tmp_path: Path) -> None:
    rows(tmp_path / "corpus.jsonl", {"_id": "1", "text": "t"})
    (tmp_path / "a.txt").write_text("a")
    assert isinstance(open_source(str(tmp_path)), Beir)
    forced = open_source(str(tmp_path), kind="folder")
    assert [document.id for document in read(forced)[0]] == ["a.txt"]
    rows(tmp_path / "rows.data", {"_id": "1", "text": "t"})
    assert len(read(open_source(str(tmp_path / "rows.data"), kind="jsonl"))[0]) == 1
    assert isinstance(open_source("python-docs"), PythonDocs)


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("missing", None, "nothing at 'missing'; name a folder, a file or 'python-docs'"),
        ("missing", "folder", "nothing at 'missing'"),
        ("missing", "jsonl", "no file 'missing'"),
        ("missing", "beir", "no corpus.jsonl in 'missing'"),
        ("missing", "csv", "no kind of source 'csv'; choose one of: beir, jsonl, folder, python-docs"),
        ("picture.png", None, "no reader for the file 'picture.png'; there are readers for txt"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_with_the_next_step(
    spec: str, kind: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("picture.png").touch()
    with pytest.raises(SourceError) as raised:
        open_source(spec, kind=kind)
    assert str(raised.value).startswith(message)


def test_several_sources_are_read_one_after_the_other(places: dict[str, str]) -> None:
    source = open_sources([places["Jsonl"], places["Folder"]])
    assert [document.id for document in read(source)[0]] == ["2", "1", "a.md", "b.txt"]
    assert source.count() == 4
    assert source.fingerprint() != open_sources([places["Folder"], places["Jsonl"]]).fingerprint()
    assert Chained([source, PythonDocs()]).count() is None


def test_one_source_is_not_chained_and_none_is_refused(places: dict[str, str]) -> None:
    assert isinstance(open_sources([places["Folder"]]), Folder)
    with pytest.raises(SourceError, match="no source named"):
        open_sources([])
