"""A request's passages put in order by the reranker it names."""

from __future__ import annotations

from dataclasses import dataclass

from api.dialects.passages import cut, given
from api.dialects.reranker_names import chosen_reranker
from api.errors import InvalidBody
from api.rerank_schemas import RerankRequest
from api.service import Call
from rag.assemble import Engine
from rag.errors import InvalidConfig
from rag.pipeline import check_query
from rag.protocols import Reranker
from rag.reranking.attention import AttentionReranker
from rag.reranking.given import Passage, as_given
from rag.reranking.mixed import MixedReranker
from rag.runtime.meter import Limits
from rag.values import Query, Ranking


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A request's passages and what the reranker called ``name`` made of them."""

    asked: RerankRequest
    passages: list[Passage]
    name: str
    reranker: Reranker
    query: Query
    ranking: Ranking
    warnings: list[str]


def order(call: Call, asked: RerankRequest) -> Ordered:
    """Raises InvalidBody, InvalidQuery, and whatever the reranker raises."""
    engine = call.engine
    query = Query(asked.query)
    call.account.query = asked.query
    check_query(query, engine.settings.max_query_chars)
    passages = given(asked, engine.settings.server)
    name, warning = chosen_reranker(engine.settings, asked.model, named_by_clients=asked.texts is None)
    chosen = _reranker(engine, name, asked, len(passages))
    read, shortened = cut(passages, asked.max_tokens_per_doc, engine.encoder)
    ranking = chosen.rerank(query, as_given(read))
    call.account.ran([ranking.report])
    said = [f"{shortened} documents were cut to {asked.max_tokens_per_doc} tokens"] if shortened else []
    warnings = [*filter(None, (warning, ranking.report.degraded)), *said]
    return Ordered(
        asked=asked,
        passages=passages,
        name=name,
        reranker=chosen,
        query=query,
        ranking=ranking,
        warnings=warnings,
    )


def _reranker(engine: Engine, name: str, asked: RerankRequest, depth: int) -> Reranker:
    limits = Limits(asked.deadline_ms or 0.0, asked.max_prefill_tokens or 0)
    try:
        chosen = engine.reranker(name, depth=max(1, depth), limits=limits)
    except InvalidConfig as error:
        raise InvalidBody(str(error), "model") from error
    if asked.explain_tokens and not isinstance(inner(chosen), AttentionReranker):
        raise InvalidBody(f"explain_tokens is for rerankers of kind icr; {name!r} is another", "explain_tokens")
    return chosen


def inner(chosen: Reranker) -> Reranker:
    """The reranker without the first stage's share."""
    return chosen.inner if isinstance(chosen, MixedReranker) else chosen
