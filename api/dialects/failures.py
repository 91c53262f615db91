"""Errors in the form of the server that a request was written for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap, Scope

from api.dialects.tei_schemas import TeiError, TeiErrorType
from api.errors import answer_error
from api.openapi import ERRORS
from api.schemas import Problem
from api.service import JSON
from rag.errors import InvalidInput

_KEY = "kvasir_dialect"
_TEI: Mapping[int, tuple[int, TeiErrorType]] = {
    413: (413, "Validation"),
    429: (429, "Overloaded"),
    500: (424, "Backend"),
    502: (424, "Backend"),
    503: (503, "Unhealthy"),
    507: (424, "Backend"),
}
"""Status here -> status and kind there; every other error is the request's."""


TEI_ERRORS = (*ERRORS, 424)


class NothingGiven(InvalidInput):
    """A list of texts that is empty."""


def speak_tei(scope: Scope) -> None:
    """From here on the request's errors are answered as TEI answers them."""
    scope["state"][_KEY] = "tei"


def answer_failure(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for paths that several dialects share."""
    answered = answer_error(request, error)
    if request.scope["state"].get(_KEY) != "tei":
        return answered
    problem = msgspec.json.decode(answered.content, type=Problem)
    status, kind = _TEI.get(problem.status, (422, "Validation"))
    if isinstance(error, NothingGiven):
        status, kind = 400, "Empty"
    body = msgspec.json.encode(TeiError(problem.detail, kind))
    return Response(body, status_code=status, media_type=JSON, headers=answered.headers)


HANDLERS: ExceptionHandlersMap = {HTTPException: answer_failure, Exception: answer_failure}
