"""GET /v1/pipelines: what can be named in a request."""

from __future__ import annotations

from litestar import get
from litestar.response.base import ASGIResponse
from msgspec import Struct

from api.access import READ
from api.openapi import documented
from api.service import Call, Connection, reading


class PipelineEntry(Struct, frozen=True, kw_only=True):
    """A pipeline of the settings."""

    name: str
    retrieve: list[str]
    fuse: str
    rerank: str
    select: str
    generate: str
    k: int
    budget: int


class RerankerEntry(Struct, frozen=True):
    """A reranker of the settings; ``ready`` is false where it lacks a model; kind ``icr`` explains tokens."""

    name: str
    kind: str
    ready: bool


class PipelineList(Struct, frozen=True):
    """All pipelines and rerankers by name; ``search`` and ``answer`` name the pipelines of requests that name none."""

    pipelines: list[PipelineEntry]
    rerankers: list[RerankerEntry]
    search: str
    answer: str


@get(
    "/v1/pipelines",
    opt=READ,
    summary="List the pipelines",
    description="The pipelines and rerankers a request can name, and which it gets where it names none.",
    operation_class=documented(None, {}, {200: (PipelineList,)}, errors=(429, 500)),
)
async def list_pipelines(request: Connection) -> ASGIResponse:
    return await reading(request, _listed)


def _listed(call: Call) -> PipelineList:
    settings = call.engine.settings
    pipelines = [
        PipelineEntry(
            name=name,
            retrieve=list(one.retrieve),
            fuse=one.fuse,
            rerank=one.rerank,
            select=one.select,
            generate=one.generate,
            k=one.k,
            budget=one.budget,
        )
        for name, one in sorted(settings.pipelines.items())
    ]
    rerankers = [
        RerankerEntry(name, one.kind, one.kind == "sentences" or bool(one.model or (one.reads and settings.model.name)))
        for name, one in sorted(settings.rerankers.items())
    ]
    return PipelineList(pipelines, rerankers, settings.default_pipeline, settings.answer_pipeline)
