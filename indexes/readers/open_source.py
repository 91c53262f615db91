"""From what a user names (a folder, a file, ``python-docs``) to the reader for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from indexes.corpus import Document
from indexes.errors import SourceError
from indexes.readers.beir import Beir, corpus_in
from indexes.readers.folder import Folder
from indexes.readers.formats import FORMATS, format_of
from indexes.readers.jsonl import EXTENSIONS, Jsonl
from indexes.readers.python_docs import PythonDocs
from indexes.readers.source import Report, Source

PYTHON_DOCS = "python-docs"

KINDS: Mapping[str, Callable[[str], Source]] = {
    "beir": Beir,
    "jsonl": Jsonl,
    "folder": Folder,
    PYTHON_DOCS: lambda spec: PythonDocs(),
}
"""The kinds of source by name."""


def open_source(spec: str, *, kind: str | None = None) -> Source:
    """The reader for ``spec``: its kind follows from what lies there unless ``kind`` names one of KINDS.

    ``python-docs`` is the running Python's own documentation, a folder with ``corpus.jsonl`` a BEIR corpus,
    any other a folder of files; a file is read by its extension. Raises SourceError where nothing fits.
    """
    chosen = kind or _kind(spec)
    if chosen not in KINDS:
        raise SourceError(f"no kind of source {chosen!r}; choose one of: {', '.join(KINDS)}")
    return KINDS[chosen](spec)


def _kind(spec: str) -> str:
    path = Path(spec)
    if spec == PYTHON_DOCS:
        return PYTHON_DOCS
    if path.is_dir():
        return "beir" if corpus_in(path) else "folder"
    if not path.exists():
        raise SourceError(f"nothing at {spec!r}; name a folder, a file or {PYTHON_DOCS!r}")
    if path.name.lower().endswith(EXTENSIONS):
        return "jsonl"
    if format_of(path.name):
        return "folder"
    raise SourceError(
        f"no reader for the file {spec!r}; there are readers for {', '.join([*FORMATS, *EXTENSIONS])}; "
        "name the kind yourself if the extension misleads"
    )


def open_sources(specs: Sequence[str], *, kind: str | None = None) -> Source:
    """One source with the documents of all, in the order named, all read as ``kind`` where it is given.

    Raises SourceError where none is named.
    """
    if not specs:
        raise SourceError(f"no source named; name a folder, a file or {PYTHON_DOCS!r}")
    sources = [open_source(spec, kind=kind) for spec in specs]
    return sources[0] if len(sources) == 1 else Chained(sources)


class Chained:
    """Several sources one after the other. An id that two of them share comes twice."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)

    @property
    def name(self) -> str:
        return " + ".join(source.name for source in self.sources)

    def fingerprint(self) -> str:
        parts = "\n".join(source.fingerprint() for source in self.sources)
        return hashlib.sha256(f"chained\n{parts}".encode()).hexdigest()

    def count(self) -> int | None:
        """The sum, None where one of them cannot tell."""
        counts = [source.count() for source in self.sources]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def documents(self, skipped: Report) -> Iterator[Document]:
        for source in self.sources:
            yield from source.documents(skipped)
