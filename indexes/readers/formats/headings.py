"""Markdown headings: where chunks are cut and what titles a Markdown file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Heading(NamedTuple):
    """A Markdown heading. ``start`` and ``end`` bound its line or, for the underlined kind, its two lines."""

    start: int
    end: int
    level: int
    title: str


_MARK = re.compile(
    r"^ {0,3}(?:(?P<atx>#{1,6})(?:[ \t]+(?P<title>[^\n]*))?(?=[\r\n]|\Z)"
    r"|(?P<fence>`{3,}+(?=[^`\n]*$)|~{3,})[^\n]*"
    r"|(?P<rule>=+|-+)[ \t\r]*$)",
    re.MULTILINE,
)
_NO_PARAGRAPH = re.compile(r"\s*$|\s{4}|\t| {0,3}(?:[#>|]|[-+*][ \t]|\d{1,9}[.)][ \t])")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(?=[\w-]+[ \t]*:)(?:.*\n)*?(?:---|\.\.\.)[ \t]*\r?(?:\n|\Z)")


def headings(text: str) -> Iterator[Heading]:
    """The headings in order: ``#`` lines and one-line underlined ones, outside fenced code and front matter.

    An underline below a longer paragraph is taken for a rule, as most writers mean it; CommonMark would make
    the whole paragraph a heading.
    """
    front = _FRONT_MATTER.match(text)
    after, fence = front.end() if front else 0, ""
    for mark in _MARK.finditer(text, after):
        if fence:
            ends = mark["fence"] and mark["fence"].startswith(fence) and not mark[0].strip(" \t\r" + fence[0])
            fence = "" if ends else fence
        elif mark["fence"]:
            fence = mark["fence"]
        elif mark["atx"]:
            yield Heading(mark.start(), mark.end(), len(mark["atx"]), _unclosed(mark["title"] or ""))
        elif (line := _underlined(text, mark.start(), after)) is not None:
            yield Heading(line, mark.end(), 1 if mark["rule"][0] == "=" else 2, text[line : mark.start()].strip())
        after = mark.end()


def _unclosed(title: str) -> str:
    """The title without the ``#`` signs that may close an ATX heading."""
    bare = title.rstrip().rstrip("#")
    return bare.strip() if not bare or bare[-1] in " \t" else title.strip()


def _underlined(text: str, rule: int, after: int) -> int | None:
    """Where the line above ``rule`` starts, if it is a paragraph of one line below ``after``; else None."""
    line = text.rfind("\n", after, max(after, rule - 1)) + 1 or after
    if line >= rule or _NO_PARAGRAPH.match(text[line:rule]):
        return None
    above = text[text.rfind("\n", after, max(after, line - 1)) + 1 or after : line]
    return None if above.strip() else line
