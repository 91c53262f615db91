"""File formats: from the bytes of one file to its title and text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from indexes.readers.formats.extracted import Extracted
from indexes.readers.formats.pdf import pdf
from indexes.readers.formats.plain import markdown, plain
from indexes.readers.formats.web import html
from indexes.readers.formats.word import docx

FORMATS: Mapping[str, Callable[[bytes], Extracted]] = {
    "txt": plain,
    "md": markdown,
    "html": html,
    "pdf": pdf,
    "docx": docx,
}
"""The formats by name. Each raises SourceError for bytes it cannot read; the message says what to do."""

_EXTENSIONS = {"text": "txt", "markdown": "md", "htm": "html", "xhtml": "html"}


def format_of(name: str) -> str | None:
    """The format a file's name announces (``"notes.MD"`` -> ``"md"``); None where no format reads it."""
    stem, dot, extension = name.rpartition(".")
    extension = extension.lower()
    extension = _EXTENSIONS.get(extension, extension)
    return extension if stem and dot and extension in FORMATS else None
