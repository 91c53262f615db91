"""Word documents (DOCX): paragraphs and tables in the order of the body."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from indexes.errors import SourceError
from indexes.readers.formats.extracted import Extracted, one_line

if TYPE_CHECKING:
    from docx.document import Document
    from docx.table import Table, _Row
    from docx.text.paragraph import Paragraph

MAX_UNPACKED = 512 * 2**20
"""Most bytes the parts of one file may unpack to."""

MAX_RATIO = 100
"""Most bytes one packed byte may unpack to, for files over 8 MiB unpacked; Word's own XML stays below 30."""

_SMALL = 8 * 2**20
_HEADING = re.compile(r"Heading ([1-6])$")


def docx(data: bytes) -> Extracted:
    """Blocks separated by blank lines: headings as Markdown ``#`` lines, table rows as ``a | b``.

    Raises SourceError where the file is damaged, no Word document, or would unpack to far more than it packs.
    """
    from docx import Document
    from docx.opc.exceptions import OpcError

    try:
        _refuse_bombs(data)
        document = Document(io.BytesIO(data))
        text = "\n\n".join(block for block in _blocks(document) if block)
        return Extracted(title=one_line(document.core_properties.title or ""), text=text)
    except SourceError:
        raise
    except (
        OpcError,
        zipfile.BadZipFile,
        zlib.error,
        AttributeError,  # a part that should be XML is not
        EOFError,
        LookupError,
        RuntimeError,  # a ZIP encrypted or packed in an unknown way
        SyntaxError,  # lxml's XMLSyntaxError
        TypeError,
        ValueError,
    ) as error:
        raise SourceError(
            f"not a readable Word document ({type(error).__name__}: {error}); save it again as .docx"
        ) from error


def _refuse_bombs(data: bytes) -> None:
    """Raises SourceError by the sizes in the ZIP's directory, which also bound what unpacking reads."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > MAX_UNPACKED or (unpacked > _SMALL and unpacked > MAX_RATIO * len(data)):
        raise SourceError(
            f"{len(data)} bytes would unpack to {unpacked}, over {MAX_UNPACKED} or over {MAX_RATIO} times; "
            "split the document or save it as text"
        )


def _blocks(document: Document) -> Iterator[str]:
    from docx.table import Table

    for block in document.iter_inner_content():
        yield _table(block) if isinstance(block, Table) else _paragraph(block)


def _paragraph(paragraph: Paragraph) -> str:
    text = paragraph.text.strip()
    style = paragraph.style.name if paragraph.style is not None else None
    if not text or not style:
        return text
    if style == "Title":
        return f"# {one_line(text)}"
    heading = _HEADING.match(style)
    return f"{'#' * int(heading[1])} {one_line(text)}" if heading else text


def _table(table: Table) -> str:
    return "\n".join(" | ".join(_cells(row)) for row in table.rows)


def _cells(row: _Row) -> list[str]:
    """The row's texts, a merged cell once."""
    cells = row.cells
    return [one_line(cell.text) for i, cell in enumerate(cells) if i == 0 or cells[i - 1]._tc is not cell._tc]
