"""The OpenAPI document: Litestar lists routes and parameters, msgspec describes the bodies the handlers read."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, get_args, get_origin

import msgspec
from litestar import Request, Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Operation

from api.access import READ
from api.schemas import ErrorDetail, Problem

Structs = tuple[Any, ...]
"""Struct types, lists of them, and lists of lists of numbers."""

_described: set[type[msgspec.Struct]] = {Problem}
_PATH_PARAMETERS = {
    "ref": "A collection's name, an alias, or name@version",
    "doc_id": "A document's id, percent-encoded; its slashes may stand as they are",
    "job_id": "A job's id",
    "index": "A collection's name, an alias, or name@version",
    "docid": "A document's id; its slashes may stand as they are",
    "model_id": "A model's id; its slashes may stand as they are",
}
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["sources", "selection", "token", "citations", "answer", "usage", "done", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
ERRORS = (400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504, 507)


def documented(
    body: type[msgspec.Struct] | None,
    examples: Mapping[str, object],
    responses: Mapping[int, Structs],
    *,
    errors: tuple[int, ...] = ERRORS,
    events: bool | type[msgspec.Struct] = False,
    failure: type[msgspec.Struct] | None = None,
) -> type[Operation]:
    """An operation with a request body, its examples, its responses and the errors' one shape.

    events    it can also answer with server-sent events, named ones or such structs
    failure   errors can also have this shape, that of another server
    """
    answers = {str(status): _response(status, structs, events) for status, structs in responses.items()}
    failures = {str(status): _failure(status, failure) for status in errors}
    _described.update(kind for structs in responses.values() for kind in map(_struct_of, structs) if kind)
    _described.update(kind for kind in (body, events, failure) if kind is not None and not isinstance(kind, bool))

    class Documented(Operation):
        def to_schema(self) -> dict[str, Any]:
            schema = super().to_schema() | {"responses": answers | failures}
            schema.setdefault("parameters", [])
            schema["parameters"] = [_parameter(one) for one in schema["parameters"]]
            if body is not None:
                named = {name: {"summary": name, "value": value} for name, value in examples.items()}
                content = {"schema": ref_to(body), "examples": named}
                schema["requestBody"] = {"required": True, "content": {"application/json": content}}
            return schema

    return Documented


def plain(media_type: str) -> type[Operation]:
    """An operation that answers with text."""
    content = {media_type: {"schema": {"type": "string"}}}
    answers = {"200": {"description": HTTPStatus.OK.phrase, "content": content}}
    failures = {str(status): _failure(status) for status in (429, 500)}

    class Plain(Operation):
        def to_schema(self) -> dict[str, Any]:
            return super().to_schema() | {"responses": answers | failures}

    return Plain


def _response(status: int, structs: Structs, events: bool | type[msgspec.Struct]) -> dict[str, Any]:
    refs = [ref_to(kind) for kind in structs]
    content: dict[str, Any] = {"application/json": {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}
    if events:
        content["text/event-stream"] = {"schema": _EVENT if events is True else _unnamed(events)}
    return {"description": HTTPStatus(status).phrase, "content": content}


def _unnamed(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """An event whose data is such a struct, or an error; a last one says [DONE]."""
    broken = {"type": "object", "required": ["error"], "properties": {"error": ref_to(ErrorDetail)}}
    content = {"anyOf": [ref_to(kind), broken]}
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"data": {"anyOf": [data, {"const": "[DONE]"}]}},
    }


def _failure(status: int, other: type[msgspec.Struct] | None = None) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": ref_to(Problem)}}
    if other is not None:
        content["application/json"] = {"schema": ref_to(other)}
    return {"description": HTTPStatus(status).phrase, "content": content}


def _parameter(described: dict[str, Any]) -> dict[str, Any]:
    """A query parameter as Litestar describes it; a path parameter in plain words, without a format of its own."""
    if described["in"] != "path":
        return described
    return described | {
        "schema": {"type": "string", "minLength": 1},
        "description": _PATH_PARAMETERS[described["name"]],
    }


def ref_to(kind: Any) -> dict[str, Any]:
    if get_origin(kind) is list:
        return {"type": "array", "items": ref_to(get_args(kind)[0])}
    return {"type": "number"} if kind is float else {"$ref": f"#/components/schemas/{kind.__name__}"}


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """The struct itself, or that of which there is a list; None for a list of numbers."""
    if get_origin(kind) is list:
        return _struct_of(get_args(kind)[0])
    return None if kind is float else kind


class _Json(JsonRenderPlugin):
    """Litestar's document with msgspec's component schemas."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        ordered = sorted(_described, key=lambda kind: kind.__name__)
        _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
        known = openapi_schema.get("components", {})
        schemas = known.get("schemas", {}) | components
        return msgspec.json.encode(openapi_schema | {"components": known | {"schemas": schemas}})


def openapi_config(version: str) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Kvasir",
        version=version,
        description="Find passages, and answer questions from them with checked citations.",
        openapi_router=Router(path="/schema", route_handlers=[], opt=READ, include_in_schema=False),
        render_plugins=[_Json(path=["/", "/openapi.json"])],
    )
