"""POST /v1/answer: whole as JSON, or piece by piece as server-sent events."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import msgspec
from litestar import post
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from msgspec import UNSET

from api.access import READ
from api.bodies import decode, decoder
from api.errors import problem_of
from api.explain import numbered, selection, trace
from api.openapi import documented
from api.schemas import AnswerRequest, AnswerResponse, CitedPlace, PipelineChoice, TokenUsage, Trace
from api.search import chosen_pipeline
from api.service import JSON, Call, Connection, call_of, service_of
from api.waiting import while_connected
from api.workers import Emit
from indexes.corpus import clean_text
from indexes.filters import parse_filter
from indexes.snapshot import Snapshot
from rag.pipeline import Pipeline
from rag.pipeline import trace as reports_of
from rag.values import Answer, Context, Query

_READER = decoder(AnswerRequest)

EXAMPLES = {
    "A question": {"collection": "demo", "question": "How do plants make sugar?"},
    "As a stream": {"collection": "demo", "question": "What pumps blood?", "stream": True, "budget": 300},
    "Everything explained": {"collection": "demo", "question": "What pumps blood?", "k": 5, "explain": True},
    "Sources by search": {"collection": "demo", "question": "What pumps blood?", "selector": "search", "budget": 300},
}

STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@post(
    "/v1/answer",
    status_code=200,
    opt=READ,
    summary="Answer a question",
    description="An answer from the best chunks, each statement cited. With `stream` as server-sent events: "
    "`sources`, with `explain` a `selection`, then `token`s, `citations`, `answer`, `usage` and `done`; `error` where "
    "it breaks off.",
    operation_class=documented(AnswerRequest, EXAMPLES, {200: (AnswerResponse,)}, events=True),
)
async def answer(request: Connection) -> ASGIResponse:
    service = service_of(request)
    body = await request.body()
    asked = await service.workers.run(lambda: decode(_READER, body))
    call = call_of(request, body)
    if not asked.stream:
        encoded = await while_connected(
            request, service.workers, lambda: msgspec.json.encode(_Asking.of(call, asked).whole())
        )
        return ASGIResponse(body=encoded, media_type=JSON)

    def broken_off(error: Exception) -> bytes:
        problem = problem_of(error, call.request_id, str(service.engine.home.root))[0]
        call.account.error = problem.error.code
        return event("error", problem)

    pieces = await service.workers.stream(lambda emit: _Asking.of(call, asked).streamed(emit), broken_off)
    return ASGIStreamingResponse(iterator=pieces, media_type="text/event-stream", headers=STREAM_HEADERS)


def event(name: str, data: object) -> bytes:
    """One server-sent event; JSON has no line breaks of its own, so one data line holds it."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


@dataclass(frozen=True, slots=True)
class _Asking:
    """A question on its way, on a worker thread."""

    asked: AnswerRequest
    pipeline: Pipeline
    query: Query
    snapshot: Snapshot
    call: Call
    started: float

    @classmethod
    def of(cls, call: Call, asked: AnswerRequest) -> _Asking:
        started = time.perf_counter()
        default = call.engine.settings.answer_pipeline
        wanted = with_selector(asked.pipeline, asked.selector)
        pipeline = chosen_pipeline(call.engine, asked.collection, wanted, default)
        chosen = None if asked.filter is None else parse_filter(asked.filter)
        snapshot = call.engine.collection(asked.collection).snapshot()
        call.account.query = asked.asked
        return cls(asked, pipeline, Query(asked.asked, filter=chosen), snapshot, call, started)

    def whole(self) -> AnswerResponse:
        context = self._context()
        *_, given = self.pipeline.stream(self.query, context)
        assert isinstance(given, Answer), "a generator's stream ends with its Answer"
        self.call.account.ran([given.report])
        return AnswerResponse(
            clean_text(given.text),
            given.found,
            cited(given),
            numbered(given.context, self.asked.explain),
            used(given),
            given.generator,
            degraded(given),
            list(given.notes),
            self._trace(given),
            selection(given.context, self.asked.explain),
        )

    def streamed(self, emit: Emit) -> None:
        context = self._context()
        emit(event("sources", {"sources": numbered(context, self.asked.explain)}))
        if (chosen := selection(context, self.asked.explain)) is not UNSET:
            emit(event("selection", {"selection": chosen}))
        given = self._spoken(context, emit)
        emit(event("citations", {"citations": cited(given)}))
        said = {"answer": clean_text(given.text), "found": given.found, "generator": given.generator}
        emit(event("answer", said | {"degraded": degraded(given), "notes": list(given.notes)}))
        emit(event("usage", {"usage": used(given), "trace": self._trace(given)}))
        emit(event("done", {}))

    def _spoken(self, context: Context, emit: Emit) -> Answer:
        """The answer, its words handed over as they come. Leaving early closes the generator."""
        pieces = cast("Generator[str | Answer, None, None]", self.pipeline.stream(self.query, context))
        last: str | Answer = ""
        with closing(pieces):
            for last in pieces:
                if isinstance(last, str):
                    emit(event("token", {"text": clean_text(last)}))
        assert isinstance(last, Answer), "a generator's stream ends with its Answer"
        self.call.account.ran([last.report])
        return last

    def _context(self) -> Context:
        """Retrieve and select."""
        context = self.pipeline.context(self.query, self.asked.budget, self.asked.k)
        reports = reports_of(context.ranking, context.report)
        self.call.account.ran(reports, self.snapshot.place.name, self.pipeline.name)
        return context

    def _trace(self, given: Answer) -> Trace:
        reports = reports_of(given.context.ranking, given.context.report, given.report)
        seconds = time.perf_counter() - self.started
        return trace(self.call.request_id, self.snapshot, self.pipeline.name, reports, seconds)


def with_selector(wanted: PipelineChoice | None, selector: str | None) -> PipelineChoice | None:
    """The pipeline with another selector where one is named."""
    if selector is None:
        return wanted
    named = {"name": wanted} if isinstance(wanted, str) else dict(wanted or {})
    return {**named, "select": selector}


def cited(given: Answer) -> list[CitedPlace]:
    return [CitedPlace(c.number, c.chunk_id, c.doc_id, c.start, c.end) for c in given.citations]


def used(given: Answer) -> TokenUsage:
    return TokenUsage(given.usage.prompt_tokens, given.usage.completion_tokens)


def degraded(given: Answer) -> list[str]:
    """Why stages gave less than was asked for, each led by the stage's name."""
    reports = reports_of(given.context.ranking, given.context.report, given.report)
    return [f"{report.stage}: {report.degraded}" for report in reports if report.degraded]
