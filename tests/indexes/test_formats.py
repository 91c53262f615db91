"""Each format gives the title and text a reader of the file sees, or says why it cannot."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from itertools import pairwise

import docx
import pytest
from fpdf import FPDF
from hypothesis import given
from hypothesis import strategies as st

from indexes.errors import SourceError
from indexes.readers.formats import FORMATS, format_of
from indexes.readers.formats.extracted import Extracted
from indexes.readers.formats.headings import headings

plain, markdown, html, pdf, word = (FORMATS[name] for name in ("txt", "md", "html", "pdf", "docx"))


def pdf_of(pages: Sequence[str], title: str = "", password: str = "") -> bytes:
    document = FPDF()
    document.set_title(title)
    document.set_font("helvetica", size=12)
    if password:
        document.set_encryption(owner_password="owner", user_password=password)
    for page in pages:
        document.add_page()
        document.multi_cell(0, text=page)
    return bytes(document.output())


def docx_of(document: object) -> bytes:
    target = io.BytesIO()
    document.save(target)  # type: ignore[attr-defined]
    return target.getvalue()


def refusal(read: Callable[[bytes], Extracted], data: bytes) -> str | None:
    """Why the bytes were refused, None where they were read."""
    try:
        read(data)
    except SourceError as error:
        return str(error)
    return None


def test_the_parsers_are_loaded_only_when_a_file_needs_them() -> None:
    code = "import sys, indexes.readers.open_source; print({'pypdf', 'docx', 'selectolax'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("a.txt", "txt"),
        ("A.MD", "md"),
        ("x.y.htm", "html"),
        ("a.pdf", "pdf"),
        ("a.docx", "docx"),
        ("a.doc", None),
        ("README", None),
        (".md", None),
        ("a.", None),
    ],
)
def test_a_format_follows_from_the_extension(name: str, format_name: str | None) -> None:
    assert format_of(name) == format_name


def test_plain_text_is_kept_as_it_is() -> None:
    extracted = plain("  Zürich\r\n\r\nтекст \n".encode())
    assert (extracted.title, extracted.text) == ("", "  Zürich\r\n\r\nтекст \n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood_and_dropped(encoding: str) -> None:
    assert plain("naïve".encode(encoding)).text == "naïve"


@pytest.mark.parametrize(("data", "offset"), [(b"abc\xff", 3), (b"\xef\xbb\xbfabc\xff", 6)])
def test_other_encodings_are_refused_with_the_offset(data: bytes, offset: int) -> None:
    with pytest.raises(SourceError, match=f"not UTF-8 at byte {offset}; convert the file to UTF-8"):
        plain(data)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# A\n\n## B ##\n", [(1, "A"), (2, "B")]),
        ("A\n===\n\nB\n---\n", [(1, "A"), (2, "B")]),
        ("#tag\n    # code\n####### seven\n", []),
        ("```\n# in code\n```\n# out\n", [(1, "out")]),
        ("~~~~\n~~~\n# in\n~~~~\n# out\n", [(1, "out")]),
        ("```py\n# never closed\n", []),
        ("```inline``` code\n# out\n", [(1, "out")]),
        ("text\n\n---\n\n- item\n---\n", []),
        ("two\nlines\n---\n", []),
        ("---\ntitle: x\n---\n# A\n", [(1, "A")]),
        ("# C#\n#\n# A # B\r\n", [(1, "C#"), (1, ""), (1, "A # B")]),
    ],
)
def test_headings_are_found_as_commonmark_has_them(text: str, found: list[tuple[int, str]]) -> None:
    assert [(heading.level, heading.title) for heading in headings(text)] == found


@given(st.lists(st.sampled_from(["# a\n", "b\n", "\n", "===\n", "---\n", "```\n", "~~~\n", "- c\n", "    d\n"])))
def test_headings_lie_in_order_at_the_starts_of_lines(lines: list[str]) -> None:
    text = "".join(lines)
    found = list(headings(text))
    assert all(heading.start == 0 or text[heading.start - 1] == "\n" for heading in found)
    assert all(one.end <= two.start for one, two in pairwise(found))


def test_markdown_is_kept_raw_and_titled_by_its_first_heading() -> None:
    extracted = markdown(b"Intro\n\n## *First*  part\n# Second\n")
    assert (extracted.title, extracted.text) == ("*First* part", "Intro\n\n## *First*  part\n# Second\n")


PAGE = b"""<!doctype html><html><head><title> A &amp; B
 page</title><style>p{}</style></head><body>
<nav>menu</nav><h1>One <em>two</em></h1><p>first<br>line
<p>caf&eacute; <script>no()</script>tail<!-- hidden -->
<ul><li>point</li><li><p>other</p></li></ul>
<table><caption>Sizes</caption><tr><th>a<th>b<tr><td>1 <b>x</b>y<td>2</table>
<pre>
 # code
   &lt;x&gt;</pre>
<div>end</div>loose</body></html>"""


def test_html_is_laid_out_as_blocks_a_reader_sees() -> None:
    extracted = html(PAGE)
    assert extracted.title == "A & B page"
    assert extracted.text.split("\n\n") == [
        "# One two",
        "first line",
        "café tail",
        "- point",
        "- other",
        "Sizes\na | b\n1 xy | 2",
        "```\n # code\n   <x>\n```",
        "end",
        "loose",
    ]


def test_a_table_that_arranges_the_page_is_read_as_blocks() -> None:
    page = b"<table><tr><td><h2>Left</h2><p>text</p></td><td><table><tr><td>1<td>2</table></td></tr></table>"
    assert html(page).text.split("\n\n") == ["## Left", "text", "1 | 2"]


def test_an_empty_heading_or_item_marks_nothing_after_it() -> None:
    assert html(b"<h2></h2><p>one</p><ul><li></li></ul>two").text == "one\n\ntwo"


def test_html_without_a_title_takes_the_first_heading() -> None:
    assert html(b"<p>x<h1>The <b>head</b></h1>").title == "The head"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('<meta charset="utf-8"><p>é</p>'.encode(), "é"),
        ('<meta charset="windows-1251"><p>да</p>'.encode("cp1251"), "да"),
        ('<meta http-equiv=x content="text/html; charset=ISO-8859-1"><p>“é”</p>'.encode("cp1252"), "“é”"),
        ("<p>é</p>".encode("utf-16"), "é"),
    ],
)
def test_html_is_decoded_as_it_declares(data: bytes, text: str) -> None:
    assert html(data).text == text


@pytest.mark.parametrize("declared", [b"", b"<meta charset=no-such>", b"<meta charset=hex>", b"<meta charset=ascii>"])
def test_html_in_an_undeclared_or_unknown_encoding_is_refused(declared: bytes) -> None:
    with pytest.raises(SourceError, match="convert"):
        html(declared + b"<p>\x81</p>")


def test_deeply_nested_html_is_read() -> None:
    assert html(b"<b>" * 20_000 + b"deep").text == "deep"


@given(st.binary(max_size=200))
def test_html_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    assert "convert" in (refusal(html, data) or "convert")


def test_a_pdf_gives_its_pages_joined_by_form_feeds() -> None:
    extracted = pdf(pdf_of(["First page.", "Second page."], title="The  title"))
    assert (extracted.title, extracted.text) == ("The title", "First page.\fSecond page.")


def test_an_encrypted_pdf_is_refused_with_the_next_step() -> None:
    with pytest.raises(SourceError, match="encrypted with a password; save the PDF without one"):
        pdf(pdf_of(["secret"], password="pass"))


def test_a_pdf_without_text_asks_for_ocr() -> None:
    with pytest.raises(SourceError, match="no text in its 2 pages; run OCR"):
        pdf(pdf_of(["", ""]))


def test_every_cut_of_a_pdf_is_read_or_refused_and_never_heard(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = pdf_of(["Some words."])
    refusals = [refusal(pdf, whole[:end] + b"\n%%EOF") for end in range(0, len(whole), 37)]
    assert all(why.startswith(("not a readable PDF", "no text")) for why in refusals if why)
    assert sum(bool(why) for why in refusals) > 10
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_a_word_document_is_read_in_the_order_of_its_body() -> None:
    document = docx.Document()
    document.core_properties.title = "Report"
    document.add_heading("All", 0)
    document.add_heading("Part", 2)
    document.add_paragraph("Before.")
    table = document.add_table(rows=2, cols=3)
    for i, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"c{i}"
    table.cell(1, 0).merge(table.cell(1, 1)).text = "wide"
    document.add_paragraph("")
    document.add_paragraph("After.")
    extracted = word(docx_of(document))
    assert extracted.title == "Report"
    assert extracted.text.split("\n\n") == [
        "# All",
        "## Part",
        "Before.",
        "c0 | c1 | c2\nwide | c5",
        "After.",
    ]


def test_a_word_file_that_would_unpack_to_far_more_is_refused_unopened() -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * 20_000_000)
    with pytest.raises(SourceError, match="would unpack to 20000000"):
        word(bomb.getvalue())


def test_a_word_file_that_lies_about_its_size_is_refused() -> None:
    data = bytearray(docx_of(docx.Document()))
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 2**31)  # the unpacked size in the ZIP's directory
    with pytest.raises(SourceError, match="would unpack to"):
        word(bytes(data))


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "no document", "bad xml"])
def test_a_damaged_word_file_is_refused(damage: str) -> None:
    whole = docx_of(docx.Document())
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            if name != "word/document.xml":
                target.writestr(name, source.read(name))
            elif damage == "bad xml":
                target.writestr(name, b"<w:document")
    data = {"text": b"hello", "empty": b"", "cut": whole[: len(whole) // 2]}.get(damage, changed.getvalue())
    with pytest.raises(SourceError, match="not a readable Word document"):
        word(data)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_title_is_one_line_of_bounded_length(format_name: str) -> None:
    long = "word " * 100
    document = docx.Document()
    document.core_properties.title = long[:250]  # the longest that Word keeps is 255
    data = {
        "txt": b"text",
        "md": f"# {long}".encode(),
        "html": f"<title>{long}\n\n</title>x".encode(),
        "pdf": pdf_of(["x"], title=long),
        "docx": docx_of(document),
    }[format_name]
    title = FORMATS[format_name](data).title
    assert len(title) <= 300
    assert title == " ".join(title.split())
    assert bool(title) is (format_name != "txt")
