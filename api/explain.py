"""Rankings as JSON: results, the trace of the stages, and what every stage made of each chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import UNSET, UnsetType

from api.schemas import (
    BestSetSoFar,
    NumberedSource,
    Result,
    Selection,
    StageScore,
    StageTrace,
    Trace,
    TreeBranch,
    WeighedChunk,
)
from indexes.snapshot import Snapshot
from rag.choice import Weighed
from rag.values import Context, Hit, Ranking, StageReport

Explain = Callable[[Hit], list[StageScore] | UnsetType]


def explainer(ranking: Ranking, wanted: bool) -> Explain:
    """What every stage made of a hit; a stage that did not know the chunk has no entry."""
    if not wanted:
        return lambda hit: UNSET
    stages = [
        (stage, {hit.chunk.id: (rank, hit.score) for rank, hit in enumerate(stage, start=1)})
        for stage in ranking.stages()
    ]

    def explain(hit: Hit) -> list[StageScore]:
        return [
            StageScore(stage.report.stage, *places[hit.chunk.id], stage.kind.value)
            for stage, places in stages
            if hit.chunk.id in places
        ]

    return explain


def results(ranking: Ranking, explained: bool) -> list[Result]:
    explain = explainer(ranking, explained)
    kind = ranking.kind.value
    return [
        Result(
            hit.chunk.id,
            hit.chunk.doc_id,
            hit.chunk.title,
            hit.chunk.text,
            hit.chunk.start,
            hit.chunk.end,
            rank,
            ranking.relevance(hit),
            hit.score,
            kind,
            explain(hit),
        )
        for rank, hit in enumerate(ranking, start=1)
    ]


def numbered(context: Context, explained: bool) -> list[NumberedSource]:
    """The sources of an answer in prompt order, so that [n] in its text means the nth."""
    explain = explainer(context.ranking, explained)
    kind = context.ranking.kind.value
    return [
        NumberedSource(
            number,
            hit.chunk.id,
            hit.chunk.doc_id,
            hit.chunk.title,
            hit.chunk.text,
            hit.chunk.start,
            hit.chunk.end,
            context.ranking.relevance(hit),
            hit.score,
            kind,
            explain(hit),
        )
        for number, hit in enumerate(context.hits, start=1)
    ]


def selection(context: Context, explained: bool) -> Selection | UnsetType:
    """Why the sources are these, where that is asked for and the selector says it."""
    choice = context.choice
    if choice is None or not explained:
        return UNSET
    return Selection(
        choice.selector,
        choice.utility,
        choice.evaluations,
        choice.tokens,
        choice.end,
        [BestSetSoFar(best.evaluations, best.utility, list(best.chunk_ids)) for best in choice.bests],
        [_weighed(weighed) for weighed in choice.chosen],
        [_weighed(weighed) for weighed in choice.rejected],
        [TreeBranch(b.parent, b.added or None, b.utility, b.best, b.visits, b.closed) for b in choice.tree],
    )


def _weighed(weighed: Weighed) -> WeighedChunk:
    return WeighedChunk(weighed.chunk_id, weighed.gain, weighed.by, dict(weighed.terms), weighed.instead_of or None)


def trace(request_id: str, snapshot: Snapshot, pipeline: str, reports: Iterable[StageReport], seconds: float) -> Trace:
    stages = [stage_trace(report) for report in reports]
    place = snapshot.place
    return Trace(request_id, place.name, place.version, snapshot.generation, pipeline, stages, milliseconds(seconds))


def stage_trace(report: StageReport) -> StageTrace:
    return StageTrace(
        report.stage,
        milliseconds(report.seconds),
        report.n_in,
        report.n_out,
        report.tokens,
        report.degraded or UNSET,
        report.passes or UNSET,
        report.decoded or UNSET,
        report.peak_mb or UNSET,
        list(report.notes) or UNSET,
        report.cache_mode or UNSET,
        report.reused if report.cache_mode else UNSET,
        report.recomputed if report.cache_mode else UNSET,
        milliseconds(report.first_token) or UNSET,
    )


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
