"""One question's answer as a row: the same from the library and from a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from eval.server import Server
from eval.wire import SentAnswer, documents_of
from rag.pipeline import Pipeline, trace
from rag.values import Query, StageReport

Ask = Callable[[Query], dict[str, Any]]
"""A question's row: text, found, cited, context (document ids), tokens, seconds, stages.

context_tokens is None where a server keeps it for itself."""


def from_library(pipeline: Pipeline) -> Ask:
    """Asks the pipeline in this process."""

    def ask(query: Query) -> dict[str, Any]:
        started = time.perf_counter()
        answer = pipeline.answer(query)
        return _row(
            answer.text,
            answer.found,
            cited=(citation.doc_id for citation in answer.citations),
            context=(chunk.doc_id for chunk in answer.context.chunks),
            tokens=answer.context.tokens,
            usage=(answer.usage.prompt_tokens, answer.usage.completion_tokens),
            reports=trace(answer.context.ranking, answer.context.report, answer.report),
            seconds=time.perf_counter() - started,
        )

    return ask


def from_server(server: Server, collection: str, pipeline: Mapping[str, Any]) -> Ask:
    """Asks the server; the time is that of the request. It does not say how many tokens the context has."""

    def ask(query: Query) -> dict[str, Any]:
        body = {"collection": collection, "question": query.text, "pipeline": dict(pipeline)}
        sent, seconds = server.post("/v1/answer", body, SentAnswer)
        return _row(
            sent.answer,
            sent.found,
            cited=documents_of(sent.citations),
            context=documents_of(sent.sources),
            tokens=None,
            usage=(sent.usage.prompt_tokens, sent.usage.completion_tokens),
            reports=sent.trace.reports(),
            seconds=seconds,
        )

    return ask


def _row(
    text: str,
    found: bool,
    *,
    cited: Iterable[str],
    context: Iterable[str],
    tokens: int | None,
    usage: tuple[int, int],
    reports: Sequence[StageReport],
    seconds: float,
) -> dict[str, Any]:
    return {
        "text": text,
        "found": found,
        "cited": list(dict.fromkeys(cited)),
        "context": list(dict.fromkeys(context)),
        "context_tokens": tokens,
        "prompt_tokens": usage[0],
        "completion_tokens": usage[1],
        "prefill": sum(report.tokens for report in reports),
        "decoded": sum(report.decoded for report in reports),
        "reused": sum(report.reused for report in reports),
        "degraded": any(report.degraded for report in reports),
        "seconds": seconds,
        "stages": {report.stage: report.seconds for report in reports},
    }
