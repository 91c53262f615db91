"""PDF: the text layer, page by page. Pictures of text hold no text; those files need OCR first."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from indexes.errors import SourceError
from indexes.readers.formats.extracted import Extracted, one_line

if TYPE_CHECKING:
    from pypdf import PdfReader

PAGE_BREAK = "\f"

# What a damaged file makes pypdf raise besides its own errors: it follows whatever the bytes claim.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def pdf(data: bytes) -> Extracted:
    """The pages' text joined by form feeds, titled by the file's metadata.

    Raises SourceError where a password is needed, the file is damaged, or no page holds text.
    """
    with _quiet():
        from pypdf import PdfReader
        from pypdf.errors import DependencyError, PyPdfError

        try:
            return _read(PdfReader(io.BytesIO(data)))
        except SourceError:
            raise
        except DependencyError as error:
            raise SourceError(f"encrypted ({error}); save the PDF without encryption") from error
        except (PyPdfError, *_DAMAGE) as error:
            raise SourceError(
                f"not a readable PDF ({type(error).__name__}: {error}); open it in a viewer and save it again"
            ) from error


def _read(reader: PdfReader) -> Extracted:
    if reader.is_encrypted and not reader.decrypt(""):
        raise SourceError("encrypted with a password; save the PDF without one")
    pages = [page.extract_text() for page in reader.pages]
    if not any(page.strip() for page in pages):
        raise SourceError(f"no text in its {len(pages)} pages; run OCR over the PDF first")
    title = reader.metadata.title if reader.metadata else None
    return Extracted(title=one_line(title if isinstance(title, str) else ""), text=PAGE_BREAK.join(pages))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps pypdf's remarks about harmless flaws off stderr and out of ``-W error``."""
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
