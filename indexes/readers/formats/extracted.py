"""What every format gives back."""

from __future__ import annotations

from dataclasses import dataclass

MAX_TITLE = 300
"""Longest title in code points; some PDF writers put the whole abstract into the title field."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The readable part of one file. ``title`` is "" where the file names none; it has no line breaks."""

    title: str
    text: str


def one_line(title: str) -> str:
    """The title with every run of white space as one blank, at most 300 code points."""
    return " ".join(title.split())[:MAX_TITLE].rstrip()
