"""The standard library documents itself: every public docstring once, under its public name."""

from __future__ import annotations

import inspect
import json
import os
import pathlib
import platform
import subprocess
import sys

import pytest

from indexes.corpus import Document
from indexes.readers import python_docs
from indexes.readers.python_docs import PythonDocs
from indexes.readers.source import Skipped


@pytest.fixture(scope="module")
def reports() -> list[Skipped]:
    return []


@pytest.fixture(scope="module")
def documents(reports: list[Skipped]) -> dict[str, Document]:
    return {document.id: document for document in PythonDocs().documents(reports.append)}


def test_there_are_several_thousand_documents_in_the_order_of_their_ids(
    documents: dict[str, Document],
) -> None:
    assert len(documents) > 4_000
    assert list(documents) == sorted(documents)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("json", json, "module"),
        ("json.dumps", json.dumps, "function"),
        ("pathlib.Path", pathlib.Path, "class"),
        ("os.path.join", os.path.join, "function"),
        ("os.open", os.open, "function"),
        ("len", len, "function"),
        ("str", str, "class"),
        ("str.split", str.split, "method"),
    ],
)
def test_a_document_holds_the_docstring_python_shows(
    name: str, value: object, kind: str, documents: dict[str, Document]
) -> None:
    assert documents[name].text == inspect.getdoc(value)
    assert documents[name].metadata["kind"] == kind
    assert documents[name].metadata["python"] == platform.python_version()


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("pathlib.Path", "class pathlib.Path"),
        ("json", "module json"),
        ("os.path.join", "os.path.join(a, *p)"),
        ("bisect.bisect_left", "bisect.bisect_left(a, x, lo=0, hi=None, *, key=None)"),
        ("str.split", "str.split(sep=None, maxsplit=-1)"),
        ("dict.fromkeys", "dict.fromkeys(iterable, value=None, /)"),
        ("math.sqrt", "math.sqrt(x, /)"),
    ],
)
def test_a_title_is_the_signature(name: str, title: str, documents: dict[str, Document]) -> None:
    assert documents[name].title == title


def test_titles_are_one_line_of_bounded_length(documents: dict[str, Document]) -> None:
    assert documents["json.dumps"].title.startswith("json.dumps(obj, *, skipkeys=False, ")
    assert documents["json.dumps"].title.endswith(", ...)")
    assert max(len(document.title) for document in documents.values()) <= 160
    assert not any("\n" in document.title for document in documents.values())


@pytest.mark.parametrize(
    "name",
    [
        "io.BytesIO",
        "collections.deque.append",
        "collections.abc.Mapping",
        "itertools.chain",
        "csv.reader",
        "math.sqrt",
        "functools.reduce",
        "sqlite3.connect",
        "socket.socket.recv",
        "concurrent.futures.Executor.submit",
        "sys.exit",
    ],
)
def test_what_private_modules_implement_is_found_under_its_public_name(
    name: str, documents: dict[str, Document]
) -> None:
    assert name in documents


def test_what_a_package_takes_from_its_parts_is_found_once_under_the_package(
    documents: dict[str, Document],
) -> None:
    assert "asyncio.run" in documents
    assert "asyncio.runners.run" not in documents
    assert "json.JSONDecoder.decode" in documents
    assert "json.decoder.JSONDecoder.decode" not in documents
    assert "json.decoder" in documents


def test_nothing_private_or_too_short_is_documented(documents: dict[str, Document]) -> None:
    assert not any(part.startswith("_") for name in documents for part in name.split("."))
    assert not any(name.split(".")[0] in {"test", "idlelib", "posix", "this"} for name in documents)
    assert min(len(document.text) for document in documents.values()) >= 20


def test_nothing_of_this_python_is_skipped(documents: dict[str, Document], reports: list[Skipped]) -> None:
    assert documents
    assert reports == []


def test_a_module_that_cannot_be_read_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "fine.py").write_text('"""A module of twenty letters."""\nescape = "\\d"\n')  # warns when parsed
    found = {name: tmp_path / f"{name}.py" for name in ("broken", "fine", "gone")}
    monkeypatch.setattr(python_docs, "_located", lambda: found.items())
    monkeypatch.setattr(sys, "stdlib_module_names", frozenset(found))
    reports: list[Skipped] = []
    assert [document.id for document in PythonDocs().documents(reports.append)] == ["fine"]
    assert [(report.where, report.why.split("(")[1].split(":")[0]) for report in reports] == [
        ("broken", "SyntaxError"),
        ("gone", "FileNotFoundError"),
    ]


DIGEST = """
import hashlib
from indexes.readers.python_docs import PythonDocs
digest = hashlib.sha256()
for document in PythonDocs().documents(lambda skipped: None):
    digest.update(repr(document).encode())
print(digest.hexdigest())
"""


def test_two_processes_read_the_same_documents_in_silence() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout != ""
    assert runs[0].stderr == runs[1].stderr == ""


def test_the_fingerprint_and_the_count_need_no_reading() -> None:
    assert PythonDocs().fingerprint() == PythonDocs().fingerprint()
    assert PythonDocs().count() is None
    assert PythonDocs().name == f"python-docs:{platform.python_version()}"
