"""What a request to rerank is answered with: one object for all clients that send documents, and TEI's array."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from msgspec import UNSET, UnsetType

from api.dialects.ordering import Ordered, inner
from api.dialects.tei_schemas import TeiRank
from api.explain import milliseconds
from api.rerank_schemas import (
    ApiVersion,
    BilledUnits,
    MetaTokens,
    ReadTokens,
    RerankedDocument,
    RerankMeta,
    RerankRequest,
    RerankResponse,
    RerankResult,
    RerankTrace,
    TokenScore,
)
from indexes.corpus import clean_text
from rag.reranking.attention import AttentionReranker
from rag.reranking.given import Passage, place_of
from rag.runtime.meter import Limits
from rag.values import Ranking

Tokens = dict[int, list[TokenScore]]


def as_tei(ordered: Ordered) -> list[TeiRank]:
    """TEI's answer: with ``top_n`` that many texts, else all."""
    raw, ranking = ordered.asked.raw_scores, ordered.ranking
    return [
        TeiRank(
            place_of(hit),
            hit.score if raw else ranking.relevance(hit),
            clean_text(ordered.passages[place_of(hit)].text) if ordered.asked.return_text else UNSET,
        )
        for hit in ranking[: ordered.asked.most]
    ]


def as_object(
    ordered: Ordered, request_id: str, version: str, started: float, warnings: Sequence[str]
) -> RerankResponse:
    """The answer for everybody else.

    version  of Cohere's interface;  started  of the request, in seconds of ``perf_counter``
    """
    asked, report = ordered.asked, ordered.ranking.report
    tokens, notes = _explained(ordered)
    results = _results(ordered, tokens)[: asked.most]
    read = report.tokens + report.reused
    return RerankResponse(
        id=request_id,
        created=int(time.time()),
        model=ordered.name,
        score_kind=ordered.ranking.kind.value,
        results=results,
        data=UNSET if asked.top_k is None else results,
        usage=ReadTokens(read, read),
        meta=RerankMeta(
            api_version=ApiVersion(version),
            billed_units=BilledUnits(-(-len(ordered.passages) // 100)),
            tokens=MetaTokens(read, report.decoded),
            cached_tokens=report.reused,
            warnings=[*ordered.warnings, *warnings] or UNSET,
        ),
        trace=_trace(request_id, ordered.ranking, notes, time.perf_counter() - started),
    )


def _explained(ordered: Ordered) -> tuple[Tokens, list[str]]:
    """Tokens by passage, and a note where the request's limits left no room for all of them."""
    chosen, given = inner(ordered.reranker), ordered.ranking.inputs
    if not ordered.asked.explain_tokens or not isinstance(chosen, AttentionReranker):
        return {}, []
    limits = _left(chosen.limits, ordered.ranking)
    found = replace(chosen, limits=limits).contributions(ordered.query, given[0])
    tokens = {
        int(one.chunk_id): [TokenScore(*pair) for pair in zip(one.tokens, one.values, strict=True)] for one in found
    }
    readable = sum(bool(hit.chunk.content.strip()) for hit in given[0])
    return tokens, [f"tokens of {len(tokens)} of {readable} passages are explained"] if len(tokens) < readable else []


def _left(limits: Limits, ranking: Ranking) -> Limits:
    """What the ranking left of the request's limits; 0 would be none."""
    deadline = limits.deadline_ms and max(1e-3, limits.deadline_ms - 1e3 * ranking.report.seconds)
    return Limits(deadline, limits.max_prefill_tokens and max(1, limits.max_prefill_tokens - ranking.report.tokens))


def _results(ordered: Ordered, tokens: Tokens) -> list[RerankResult]:
    asked, ranking = ordered.asked, ordered.ranking
    found = []
    for hit in ranking:
        place, relevance = place_of(hit), ranking.relevance(hit)
        found.append(
            RerankResult(
                index=place,
                id=_id(asked, place),
                relevance_score=hit.score if asked.raw_scores else relevance,
                score=relevance,
                raw_score=hit.score,
                kind=ranking.kind.value,
                document=_document(ordered.passages[place]) if asked.return_documents else UNSET,
                tokens=tokens.get(place, UNSET),
            )
        )
    return found


def _id(asked: RerankRequest, place: int) -> str | UnsetType:
    """The document's own id, where it has one that is a string or a number."""
    document = asked.documents[place] if asked.documents else ""
    name = None if isinstance(document, str) else document.get("id")
    return clean_text(str(name)) if isinstance(name, str | int) else UNSET


def _document(passage: Passage) -> RerankedDocument:
    return RerankedDocument(clean_text(passage.text), clean_text(passage.title))


def _trace(name: str, ranking: Ranking, notes: Sequence[str], seconds: float) -> RerankTrace:
    report = ranking.report
    return RerankTrace(
        request_id=name,
        stage=report.stage,
        time_ms=milliseconds(report.seconds),
        n_in=report.n_in or 0,
        n_out=report.n_out,
        tokens=report.tokens,
        passes=report.passes,
        decoded=report.decoded,
        peak_mb=report.peak_mb,
        degraded=report.degraded,
        notes=[*report.notes, *notes],
        cache_mode=report.cache_mode or UNSET,
        reused=report.reused if report.cache_mode else UNSET,
        recomputed=report.recomputed if report.cache_mode else UNSET,
        total_time_ms=milliseconds(seconds),
    )
