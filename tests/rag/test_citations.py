"""Citations that name no source do not survive, and it is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.citations import check_citations
from rag.values import Chunk, Context, Hit, Ranking, ScoreKind, StageReport


def context(n: int) -> Context:
    hits = tuple(Hit(Chunk(f"d{i}#0", f"d{i}", "text", 0, 4), 1.0) for i in range(1, n + 1))
    ranking = Ranking(hits, ScoreKind.BM25, StageReport("bm25"))
    return Context(hits, 0, 0, ranking, StageReport("select"))


@pytest.mark.parametrize(
    ("text", "checked", "cited", "removed"),
    [
        ("It is tall [1].", "It is tall [1].", [1], ""),
        ("Both say so [1, 3].", "Both say so [1][3].", [1, 3], ""),
        ("Late one first [3]. Then [1] and [3].", "Late one first [3]. Then [1] and [3].", [3, 1], ""),
        ("Made up [9].", "Made up.", [], "9"),
        ("Half [2, 9] made up [0].", "Half [2] made up.", [2], "9, 0"),
        ("No source [123456789].", "No source.", [], "123456789"),
        ("A list [a], a [1 thing], [] and [-1].", "A list [a], a [1 thing], [] and [-1].", [], ""),
        ("", "", [], ""),
    ],
)
def test_numbers_without_a_source_are_removed_and_noted(
    text: str, checked: str, cited: list[int], removed: str
) -> None:
    result, citations, notes = check_citations(text, context(3))
    assert result == checked
    assert [citation.number for citation in citations] == cited
    assert [(c.chunk_id, c.doc_id) for c in citations] == [(f"d{n}#0", f"d{n}") for n in cited]
    assert notes == ([f"citation [{removed}] names no source and was removed"] if removed else [])


@given(st.text("[]0123456789, ab", max_size=40), st.integers(0, 3))
def test_whatever_an_engine_writes_every_citation_has_a_source(text: str, n: int) -> None:
    checked, citations, _ = check_citations(text, context(n))
    assert all(1 <= citation.number <= n for citation in citations)
    _, same, _ = check_citations(checked, context(n))
    assert {citation.number for citation in same} >= {citation.number for citation in citations}
