"""Plain text and Markdown: decoded, otherwise left as they are."""

from __future__ import annotations

import codecs

from indexes.errors import SourceError
from indexes.readers.formats.extracted import Extracted, one_line
from indexes.readers.formats.headings import headings


def decoded(data: bytes) -> str:
    """The bytes as text: UTF-8, or UTF-16 where a byte order mark says so; the mark itself is dropped.

    Raises SourceError with the offset of the first byte that is not UTF-8.
    """
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        skipped = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
        raise SourceError(
            f"not {'UTF-16' if utf16 else 'UTF-8'} at byte {error.start + skipped}; "
            "convert the file to UTF-8, for example: iconv -f LATIN1 -t UTF-8"
        ) from error


def plain(data: bytes) -> Extracted:
    """The text as it stands. Plain text names no title."""
    return Extracted(title="", text=decoded(data))


def markdown(data: bytes) -> Extracted:
    """The Markdown source as it stands, titled by its first heading."""
    text = decoded(data)
    return Extracted(title=next((one_line(heading.title) for heading in headings(text)), ""), text=text)
