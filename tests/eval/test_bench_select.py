"""The benchmark of selection at its smallest: it runs, and what it counts is what it says."""

from __future__ import annotations

from eval.bench.selecting import CANDIDATES, candidates, selecting
from tests.tiny_models import one_thread

__all__ = ["one_thread"]


def test_cached_chunks_leave_a_small_part_of_the_tokens_to_compute() -> None:
    search, tokens, time = selecting("tiny", 1)
    assert search.measured >= (search.baseline or 0.0) * 0.5
    assert "400 sets valued" in search.note
    assert tokens.verdict == "met"
    assert 0 < tokens.measured < (tokens.baseline or 0)
    assert time.measured > 0


def test_the_candidates_are_the_same_every_time() -> None:
    assert len(candidates()) == CANDIDATES
    assert [hit.chunk.text for hit in candidates()] == [hit.chunk.text for hit in candidates()]
