"""How a first-stage search becomes a Ranking with its report."""

from __future__ import annotations

import time

from indexes.snapshot import Found, Snapshot
from rag.errors import InvalidQuery
from rag.values import Hit, Query, Ranking, ScoreKind, StageReport


def ranking(
    found: Found,
    k: int,
    *,
    stage: str,
    kind: ScoreKind,
    started: float,
    tokens: int = 0,
    notes: tuple[str, ...] = (),
) -> Ranking:
    """The k best of what was found, ties by chunk id. ``started`` is a time.perf_counter reading."""
    hits = tuple(Hit(chunk, score) for _, chunk, score in found)
    if len(hits) > k:
        hits = tuple(sorted(hits, key=lambda hit: (-hit.score, hit.chunk.id)))[:k]
    seconds = time.perf_counter() - started
    return Ranking(hits, kind, StageReport(stage, seconds, n_out=len(hits), tokens=tokens, notes=notes))


def filter_notes(snapshot: Snapshot, query: Query) -> tuple[str, ...]:
    """What a reader should know of the query's filter: fields of it that no document has, spelt otherwise perhaps."""
    if query.filter is None or not (unknown := snapshot.unknown_fields(query.filter)):
        return ()
    return (f"the filter names {', '.join(map(repr, unknown))}, which no document of the collection has",)


def check_depth(k: int, depth: int) -> None:
    """Raises InvalidQuery for a k above the depth: it would need other candidates, and so give other scores."""
    if k > depth:
        raise InvalidQuery(f"k = {k} is above this pipeline's depth of {depth}; ask for fewer, or set depth = {k}")
