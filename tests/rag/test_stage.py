"""How what an index found becomes a Ranking."""

from __future__ import annotations

import pytest

from rag.errors import InvalidQuery
from rag.retrieval.composite import cut
from rag.retrieval.stage import check_depth, ranking
from rag.values import Chunk, ScoreKind


def chunk(name: str) -> Chunk:
    return Chunk(f"{name}#0", name, "text", 0, 4)


FOUND = [(1, chunk("c"), 2.0), (2, chunk("b"), 1.0), (3, chunk("a"), 1.0)]
"""The index may give all that share the last score, in the order of its rows."""


@pytest.mark.parametrize(("k", "expected"), [(1, ["c#0"]), (2, ["c#0", "a#0"]), (3, ["c#0", "a#0", "b#0"])])
def test_of_those_that_share_the_last_score_the_smallest_ids_stay(k: int, expected: list[str]) -> None:
    made = ranking(FOUND, k, stage="dense", kind=ScoreKind.COSINE, started=0.0)
    assert [hit.chunk.id for hit in made] == expected
    assert made.report.n_out == k


def test_a_cut_keeps_the_best_the_report_and_what_it_was_made_from() -> None:
    whole = ranking(FOUND, 3, stage="dense", kind=ScoreKind.COSINE, started=0.0, tokens=5)
    short = cut(whole, 2)
    assert short.hits == whole.hits[:2]
    assert (short.report.stage, short.report.n_out, short.report.tokens) == ("dense", 2, 5)
    assert cut(whole, 3) is whole


def test_a_k_above_the_depth_is_refused_with_what_to_set() -> None:
    check_depth(100, 100)
    with pytest.raises(
        InvalidQuery, match="k = 101 is above this pipeline's depth of 100; ask for fewer, or set depth"
    ):
        check_depth(101, 100)
