"""Tells natural language from code, tables and lists; cleans docstrings and documentation pages."""

from __future__ import annotations

import re

from indexes.chunking import sentences

MIN_WORDS, MAX_WORDS = 25, 400
_FREQUENT = """
the of and to a in is it that for as with on be by this are from at or an not which if can will was has when
used use any each all one its into than only but may no other must should have so
"""
_COMMON = frozenset(_FREQUENT.split())
_WORD = re.compile(r"[A-Za-z][a-z'’]+")
_ROLE = re.compile(r":[a-z:]+:`[~!]?([^`<]+?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)|`([^`<\n]+?)\s*<[^`>\n]*>`_+|<[^>\n]{1,200}>|https?://\S+")
_FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_CODE_LINE = re.compile(
    r"^\s*(>>>|\.\.\.( |$)|\$ |\.\. |:[\w -]+:|[-=~^\"'#*+|]{3,}|\|.*\||def |class |import |from \w+ import )"
)


def is_prose(text: str) -> bool:
    """True where enough of the words are common English ones and most characters are letters."""
    found = _WORD.findall(text)
    if len(found) < 5 or len(found) > 2000:
        return False
    common = sum(word.lower() in _COMMON for word in found) / len(found)
    letters = sum(c.isalpha() or c.isspace() for c in text) / len(text)
    return common >= 0.2 and letters >= 0.85


def cleaned(text: str) -> str:
    """The running text of a docstring or page: without code, tables, directives, marks and links' targets."""
    text = _FENCE.sub("", text)
    text = _LINK.sub(lambda match: match[1] or match[2] or "", _ROLE.sub(r"\1", text))
    paragraphs = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.splitlines() if line.strip() and not _CODE_LINE.match(line)]
        joined = re.sub(r"[`*]{1,3}(?=\S)|(?<=\S)[`*]{1,3}", "", " ".join(lines)).lstrip("#-* ").strip()
        if is_prose(joined):
            paragraphs.append(joined)
    return "\n\n".join(paragraphs)


def pieces(text: str) -> list[str]:
    """The text in pieces of MIN_WORDS to MAX_WORDS words, cut between sentences; shorter ones are dropped."""
    out: list[str] = []
    waiting: list[str] = []
    for start, end in sentences(text):
        waiting.append(text[start:end])
        if sum(len(part.split()) for part in waiting) >= MAX_WORDS // 2:
            out.append("".join(waiting))
            waiting = []
    out.append("".join(waiting))
    return [piece for piece in out if MIN_WORDS <= len(piece.split()) <= MAX_WORDS]
