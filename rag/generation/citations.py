"""Citations ``[n]`` in an answer, checked against the sources it was given."""

from __future__ import annotations

import re

from rag.generation.prompt import NOT_FOUND
from rag.values import Citation, Context

_MARK = re.compile(r"( ?)\[(\d{1,9}(?:\s*,\s*\d{1,9})*)\]")


def check_citations(text: str, context: Context) -> tuple[str, tuple[Citation, ...], list[str]]:
    """(text without numbers that name no source, each cited source once in order, notes on what was removed)."""
    cited: dict[int, Citation] = {}
    unknown: list[str] = []

    def keep(match: re.Match[str]) -> str:
        numbers = [int(part) for part in match.group(2).split(",")]
        known = [n for n in numbers if 1 <= n <= len(context.hits)]
        unknown.extend(str(n) for n in numbers if n not in known)
        for number in known:
            chunk = context.hits[number - 1].chunk
            cited.setdefault(number, Citation(number, chunk.id, chunk.doc_id))
        return match.group(1) + "".join(f"[{n}]" for n in known) if known else ""

    checked = _MARK.sub(keep, text)
    notes = [f"citation [{', '.join(unknown)}] names no source and was removed"] if unknown else []
    return checked, tuple(cited.values()), notes


def settled(text: str, context: Context) -> tuple[str, bool, tuple[Citation, ...], list[str]]:
    """(text, whether it answers, citations, notes) of what a model wrote; "not found" is that and cites nothing."""
    checked, citations, notes = check_citations(text.strip(), context)
    if not checked or NOT_FOUND in checked:
        return NOT_FOUND, False, (), notes
    return checked, True, citations, notes
