"""One source as it stands in a prompt: what selection counts is what generation writes."""

from __future__ import annotations

from rag.values import Chunk


def entry(number: int, chunk: Chunk) -> str:
    """One numbered source as it stands in a prompt, its closing blank line included."""
    title = f"{chunk.title}\n" if chunk.title else ""
    return f"[{number}] {title}{chunk.text}\n\n"
