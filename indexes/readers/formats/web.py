"""HTML: what a reader of the page would read, laid out as Markdown-like blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from indexes.errors import SourceError
from indexes.readers.formats.extracted import Extracted, one_line
from indexes.readers.formats.plain import decoded

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_UNREAD = re.compile(
    "head|script|style|template|noscript|nav|svg|iframe|object|canvas|audio|video|select|button|textarea"
)
_BLOCK = re.compile(
    "address|article|aside|blockquote|body|caption|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|footer"
    "|form|header|hr|li|main|ol|p|pre|section|summary|t[dhr]|table|tbody|tfoot|thead|ul|h[1-6]"
)
_PREFIX = {"li": "- ", **{f"h{level}": "#" * level + " " for level in range(1, 7)}}
_LAYOUT = ":is(table, pre, ul, ol, h1, h2, h3, h4, h5, h6), p ~ p"
"""A table holding one of these arranges the page; its cells are read as blocks, not as rows."""

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.IGNORECASE)
_AS_BROWSERS_READ = {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252"}


def html(data: bytes) -> Extracted:
    """Blocks separated by blank lines, titled by ``<title>`` or else the first ``<h1>``.

    Headings become ``#`` lines, list items ``- `` lines, table rows ``a | b``, ``<pre>`` a fenced block that
    keeps its white space. Scripts, styles and navigation are left out.
    Raises SourceError for bytes that are not in the charset the page declares (UTF-8 where it declares none).
    """
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(_decoded(data))
    title = tree.css_first("head > title") or tree.css_first("h1")
    page = _Page()
    if tree.body is not None:
        page.read(tree.body)
    return Extracted(title=one_line(title.text()) if title else "", text="\n\n".join(page.blocks))


def _decoded(data: bytes) -> str:
    """The page as text, by its byte order mark, else the charset it declares, else UTF-8."""
    declared = _CHARSET.search(data[:2048])
    name = declared[1].decode("ascii").lower() if declared else "utf-8"
    if name.startswith(("utf-8", "utf8", "utf-16")) or data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return decoded(data)  # a page whose tag could be read is not UTF-16, whatever the tag says
    try:
        return data.decode(_AS_BROWSERS_READ.get(name, name))
    except (LookupError, UnicodeDecodeError) as error:
        raise SourceError(f"not {name}, which its <meta> declares ({error}); convert it to UTF-8") from error


class _Page:
    """Collects blocks while walking the tree with a stack of its own: pages nest deeper than Python calls."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self._inline: list[str] = []
        self._prefix = ""

    def read(self, body: LexborNode) -> None:
        """Appends the blocks below ``body``."""
        todo: list[LexborNode | None] = [body]  # None closes a block
        while todo:
            node = todo.pop()
            if node is None:
                self._end_block()
                self._prefix = ""
            elif node.is_text_node:
                self._inline.append(node.text_content or "")
            elif node.tag == "br":
                self._inline.append(" ")
            elif node.is_element_node and not _UNREAD.fullmatch(node.tag or ""):
                todo.extend(self._opened(node))

    def _opened(self, node: LexborNode) -> list[LexborNode | None]:
        """What is left to read of an element, last first."""
        tag = node.tag or ""
        inside: list[LexborNode | None] = [*node.iter(include_text=True)]
        if not _BLOCK.fullmatch(tag):
            return inside[::-1]
        self._end_block()
        self._prefix = _PREFIX.get(tag, self._prefix)
        if tag == "pre":
            self._add_fenced(node.text())
            return []
        if tag == "table" and not any(part.css_first(_LAYOUT) for part in node.iter()):
            self._add_table(node)
            return []
        return [None, *inside[::-1]]

    def _end_block(self) -> None:
        text = " ".join("".join(self._inline).split())
        self._inline.clear()
        if text:
            self.blocks.append(self._prefix + text)
            self._prefix = ""

    def _add_fenced(self, text: str) -> None:
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
        if text.strip():
            self.blocks.append(f"{fence}\n{text.strip(chr(10))}\n{fence}")

    def _add_table(self, table: LexborNode) -> None:
        rows = [[_one_cell(cell) for cell in row.css("td, th")] for row in table.css("tr")]
        caption = table.css_first("caption")
        lines = [_one_cell(caption)] if caption else []
        lines += [" | ".join(row) for row in rows if any(row)]
        if lines:
            self.blocks.append("\n".join(lines))


def _one_cell(cell: LexborNode) -> str:
    page = _Page()
    page.read(cell)
    return " ".join(page.blocks)
