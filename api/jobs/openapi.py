"""What OpenAPI says of the routes whose bodies are no single JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar.openapi.spec import Operation

from api.jobs.schemas import FolderBody
from api.openapi import documented, ref_to

_FORM = {
    "type": "object",
    "properties": {"files": {"type": "array", "items": {"type": "string", "contentMediaType": "*/*"}, "minItems": 1}},
    "required": ["files"],
}
_ROWS = {"type": "string", "description": 'A line a document: {"id": ..., "title": ..., "text": ..., more metadata}'}
_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    "description": "The same key with the same request makes one job",
}


def sending(responses: Mapping[int, tuple[type[msgspec.Struct], ...]]) -> type[Operation]:
    """The operation that takes documents in."""
    base = documented(FolderBody, {}, responses)

    class Sending(base):  # type: ignore[valid-type, misc]
        def to_schema(self) -> dict[str, Any]:
            schema: dict[str, Any] = super().to_schema()
            content = {
                "multipart/form-data": {"schema": _FORM},
                "application/x-ndjson": {"schema": _ROWS},
                "application/json": {"schema": ref_to(FolderBody)},
            }
            schema["requestBody"] = {"required": True, "content": content}
            schema["parameters"] = [*schema["parameters"], _HEADER]
            return schema

    return Sending


def following(kind: type[msgspec.Struct]) -> type[Operation]:
    """The operation that answers with events, each with the struct as data."""
    base = documented(None, {}, {200: (kind,)})
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": ref_to(kind)}
    event = {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"id": {"type": "string"}, "event": {"enum": ["progress", "end"]}, "data": data},
    }

    class Following(base):  # type: ignore[valid-type, misc]
        def to_schema(self) -> dict[str, Any]:
            schema: dict[str, Any] = super().to_schema()
            schema["responses"]["200"] = {"description": "OK", "content": {"text/event-stream": {"schema": event}}}
            return schema

    return Following
