"""Documentation that lies on every installation: docstrings of the standard library and of permissive packages."""

from __future__ import annotations

import ast
import hashlib
import platform
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from indexes.readers.python_docs import PythonDocs
from rag.embedded_model.licences import Package, packages
from rag.embedded_model.passages import Corpus, Passage, passage
from rag.embedded_model.prose import cleaned, pieces

NAME = "documentation"
PER_PACKAGE = 600
"""Passages of one package at most, so that the largest do not make up the corpus."""
_MAX_BYTES = 2**20


def documentation(found: Iterable[Package] | None = None) -> Corpus:
    """Passages with the documented object's or page's name as title, equal texts once, in a fixed order."""
    seen: set[bytes] = set()
    kept = list(_fresh(_standard_library(), seen))
    licences = [f"Python {platform.python_version()} standard library documentation: PSF-2.0"]
    for package in packages() if found is None else found:
        fresh = list(islice(_fresh(_told(package), seen), PER_PACKAGE))
        if fresh:
            kept += fresh
            licences.append(f"{package.name} {package.version}: {package.licence} ({len(fresh)} passages)")
    return Corpus(NAME, tuple(kept), tuple(licences))


def _standard_library() -> Iterator[Passage]:
    for document in PythonDocs().documents(lambda skipped: None):
        for piece in pieces(cleaned(document.text)):
            yield passage(document.title, piece)


def _told(package: Package) -> Iterator[Passage]:
    """Pages first, then docstrings, spread over the package's files."""
    pages = [path for path in package.files if path.suffix != ".py"]
    sources = [path for path in package.files if path.suffix == ".py"]
    for path in pages:
        for piece in pieces(cleaned(_read(path))):
            yield passage(package.name, piece)
    # An order that does not prefer the beginning of the alphabet, the same on every machine.
    for path in sorted(sources, key=lambda path: hashlib.sha256(path.name.encode()).digest()):
        yield from docstrings(_read(path), path.stem if path.stem != "__init__" else path.parent.name)


def docstrings(source: str, module: str) -> Iterator[Passage]:
    """The docstrings of a module's classes and functions; the source is parsed, never imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node) or ""
            name = module if isinstance(node, ast.Module) else f"{module}.{node.name}"
            for piece in pieces(cleaned(text)):
                yield passage(name, piece)


def _read(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _fresh(found: Iterable[Passage], seen: set[bytes]) -> Iterator[Passage]:
    for each in found:
        key = hashlib.sha256(" ".join(each.text.lower().split()).encode()).digest()
        if key not in seen and each.sentences:
            seen.add(key)
            yield each
