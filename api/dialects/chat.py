"""POST /v1/chat/completions: questions of OpenAI's clients, answered from the collection that the model names."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from litestar import post
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse

from api.access import READ
from api.answer import STREAM_HEADERS, cited, degraded
from api.bodies import decode
from api.dialects.chat_question import question, spoken_with
from api.dialects.chat_schemas import (
    AssistantMessage,
    CachedTokens,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChatUsage,
    ChunkChoice,
    Delta,
    Finish,
)
from api.dialects.model_names import collection_and_pipeline
from api.errors import InvalidBody, problem_of
from api.explain import numbered, trace
from api.openapi import documented
from api.schemas import Trace
from api.service import JSON, Call, Connection, call_of, service_of
from api.waiting import while_connected
from api.workers import Emit
from indexes.corpus import clean_text
from indexes.filters import parse_filter
from indexes.snapshot import Snapshot
from rag.pipeline import Pipeline
from rag.pipeline import trace as reports_of
from rag.runtime.meter import Cancelled, cancelled
from rag.values import Answer, Context, Query

_READER = msgspec.json.Decoder(ChatRequest, strict=False)

EXAMPLES = {
    "A question": {"model": "kvasir/demo", "messages": [{"role": "user", "content": "How do plants make sugar?"}]},
    "As a stream, by a pipeline of one's choice": {
        "model": "kvasir/demo/bm25",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What pumps blood?"}]},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
}


@post(
    "/v1/chat/completions",
    status_code=200,
    opt=READ,
    summary="Answer a question, for OpenAI's clients",
    description="The user's last message is answered from the collection that the model names. Sources and citations "
    "stand beside OpenAI's fields. With `stream` as chunks, an `error` where it breaks off.",
    operation_class=documented(ChatRequest, EXAMPLES, {200: (ChatCompletion,)}, events=ChatChunk),
)
async def chat(request: Connection) -> ASGIResponse:
    service = service_of(request)
    body = await request.body()
    asked = await service.workers.run(lambda: decode(_READER, body))
    call = call_of(request, body)
    if not asked.stream:
        encoded = await while_connected(
            request, service.workers, lambda: msgspec.json.encode(_Chat.of(call, asked).whole())
        )
        return ASGIResponse(body=encoded, media_type=JSON)

    def broken_off(error: Exception) -> bytes:
        problem = problem_of(error, call.request_id, str(service.engine.home.root))[0]
        call.account.error = problem.error.code
        return _frame({"error": problem.error})

    pieces = await service.workers.stream(lambda emit: _Chat.of(call, asked).streamed(emit), broken_off)
    return ASGIStreamingResponse(iterator=pieces, media_type="text/event-stream", headers=STREAM_HEADERS)


def _frame(data: object) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chat:
    """A question on its way, on a worker thread."""

    asked: ChatRequest
    call: Call
    pipeline: Pipeline
    query: Query
    snapshot: Snapshot
    notes: list[str]
    started: float
    created: int

    @classmethod
    def of(cls, call: Call, asked: ChatRequest) -> _Chat:
        started = time.perf_counter()
        if asked.n not in (None, 1):
            raise InvalidBody(f"n = {asked.n}; there is one answer, leave it out", "n")
        settings = call.engine.settings
        text = question(asked.messages, settings.dialects.chat_turns, settings.max_query_chars)
        collection, name = collection_and_pipeline(call.engine, asked.model)
        pipeline, notes = spoken_with(call.engine.pipeline(collection, name), asked)
        call.account.query = text
        return cls(
            asked=asked,
            call=call,
            pipeline=pipeline,
            query=Query(text, filter=None if asked.filter is None else parse_filter(asked.filter)),
            snapshot=call.engine.collection(collection).snapshot(),
            notes=notes,
            started=started,
            created=int(time.time()),
        )

    def whole(self) -> ChatCompletion:
        given = self._spoken(self._context(), _still_wanted)
        message = AssistantMessage(content=clean_text(given.text))
        return ChatCompletion(
            id=self._id,
            created=self.created,
            model=self.asked.model,
            choices=[ChatChoice(message=message, finish_reason=finish(given))],
            usage=usage(given),
            sources=numbered(given.context, False),
            **self._about(given),
        )

    def streamed(self, emit: Emit) -> None:
        context = self._context()
        begun = ChunkChoice(delta=Delta(role="assistant", content=""))
        emit(self._chunk(begun, sources=numbered(context, False)))
        given = self._spoken(
            context, lambda piece: emit(self._chunk(ChunkChoice(delta=Delta(content=clean_text(piece)))))
        )
        emit(self._chunk(ChunkChoice(delta=Delta(), finish_reason=finish(given)), **self._about(given)))
        if self.asked.stream_options and self.asked.stream_options.include_usage:
            emit(self._chunk(None, usage=usage(given)))
        emit(b"data: [DONE]\n\n")

    def _spoken(self, context: Context, hear: Callable[[str], None]) -> Answer:
        """The answer, its words handed over as they come. What ``hear`` raises closes the generator."""
        pieces = cast("Generator[str | Answer, None, None]", self.pipeline.stream(self.query, context))
        last: str | Answer = ""
        with closing(pieces):
            for last in pieces:
                if isinstance(last, str):
                    hear(last)
        assert isinstance(last, Answer), "a generator's stream ends with its Answer"
        self.call.account.ran([last.report])
        return last

    def _context(self) -> Context:
        context = self.pipeline.context(self.query, self.asked.budget, self.asked.k)
        reports = reports_of(context.ranking, context.report)
        self.call.account.ran(reports, self.snapshot.place.name, self.pipeline.name)
        return context

    def _chunk(self, choice: ChunkChoice | None, **more: Any) -> bytes:
        choices = [] if choice is None else [choice]
        return _frame(ChatChunk(id=self._id, created=self.created, model=self.asked.model, choices=choices, **more))

    def _about(self, given: Answer) -> dict[str, Any]:
        """What the whole answer and the last chunk tell beside the text."""
        return {
            "citations": cited(given),
            "found": given.found,
            "generator": given.generator,
            "degraded": degraded(given),
            "notes": [*given.notes, *self.notes],
            "trace": self._trace(given),
        }

    def _trace(self, given: Answer) -> Trace:
        reports = reports_of(given.context.ranking, given.context.report, given.report)
        seconds = time.perf_counter() - self.started
        return trace(self.call.request_id, self.snapshot, self.pipeline.name, reports, seconds)

    @property
    def _id(self) -> str:
        return f"chatcmpl-{self.call.request_id}"


def _still_wanted(piece: str) -> None:
    """Raises Cancelled where the client has left, for generators that do not ask by themselves."""
    gone = cancelled.get()
    if gone is not None and gone():
        raise Cancelled("the client went away")


def finish(given: Answer) -> Finish:
    return "length" if given.cut else "stop"


def usage(given: Answer) -> ChatUsage:
    read, written = given.usage.prompt_tokens, given.usage.completion_tokens
    return ChatUsage(
        prompt_tokens=read,
        completion_tokens=written,
        total_tokens=read + written,
        prompt_tokens_details=CachedTokens(min(read, given.report.reused)),
    )
