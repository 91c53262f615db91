"""Library errors as HTTP answers: one table, one shape (RFC 9457 that also holds an OpenAI ``error`` object)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException, ValidationException

from api.account import CLIENT_LEFT, account_of
from api.request_id import request_id
from api.schemas import ErrorDetail, Problem
from rag.errors import (
    CacheUnavailable,
    CollectionBusy,
    CollectionDamaged,
    CollectionExists,
    CollectionNotFound,
    DeadlineExceeded,
    EncoderMismatch,
    FormatNotSupported,
    GeneratorUnavailable,
    InvalidConfig,
    InvalidFilter,
    InvalidInput,
    InvalidQuery,
    JavaNotAvailable,
    KvasirError,
    ModelNotAvailable,
    ModelOutOfMemory,
    Overloaded,
    PipelineNotFound,
    StorageFull,
)
from rag.jobs.spool import UploadTooLarge
from rag.jobs.store import JobNotFound, TokenTaken
from rag.keys import KeysDamaged
from rag.runtime.meter import Cancelled

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"


class MalformedBody(InvalidInput):
    """A request body that is not JSON."""


class InvalidBody(InvalidInput):
    """A request body with a field that is unknown, missing or of the wrong type; ``param`` names it."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class DocumentNotFound(KvasirError):
    """No document of that id in the collection."""


class ModelNotFound(InvalidInput):
    """No model of that name for this kind of request."""


class NotAuthenticated(KvasirError):
    """A request without a key, or with one that is unknown, revoked or expired."""


class NotAllowed(KvasirError):
    """A request that its key, or the page it comes from, may not make."""


class RateLimited(Overloaded):
    """More requests than the key may make, in time or at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """How one error class is answered.

    retry_after  seconds after which a client may try again; None for an error that does not pass by itself
    param        the request field that is at fault wherever this error is raised
    """

    status: int
    type: str
    code: str
    retry_after: int | None = None
    param: str | None = None


TABLE: dict[type[Exception], Row] = {
    MalformedBody: Row(400, "invalid_request_error", "malformed_body"),
    InvalidFilter: Row(422, "invalid_request_error", "invalid_filter", param="filter"),
    InvalidConfig: Row(422, "invalid_request_error", "invalid_pipeline", param="pipeline"),
    InvalidQuery: Row(422, "invalid_request_error", "invalid_query"),
    PipelineNotFound: Row(404, "not_found_error", "pipeline_not_found", param="pipeline"),
    InvalidInput: Row(422, "invalid_request_error", "invalid_input"),
    DocumentNotFound: Row(404, "not_found_error", "document_not_found"),
    ModelNotFound: Row(404, "not_found_error", "model_not_found", param="model"),
    CollectionNotFound: Row(404, "not_found_error", "collection_not_found", param="collection"),
    CollectionExists: Row(409, "conflict_error", "collection_exists", param="name"),
    CollectionBusy: Row(409, "conflict_error", "collection_busy", retry_after=2),
    EncoderMismatch: Row(409, "conflict_error", "encoder_mismatch"),
    FormatNotSupported: Row(409, "conflict_error", "format_not_supported"),
    JobNotFound: Row(404, "not_found_error", "job_not_found"),
    TokenTaken: Row(422, "invalid_request_error", "idempotency_key_reused", param="Idempotency-Key"),
    UploadTooLarge: Row(413, "invalid_request_error", "upload_too_large"),
    NotAuthenticated: Row(401, "authentication_error", "not_authenticated"),
    NotAllowed: Row(403, "permission_error", "not_allowed"),
    RateLimited: Row(429, "rate_limit_error", "rate_limited", retry_after=1),
    DeadlineExceeded: Row(504, "timeout_error", "deadline_exceeded"),
    KeysDamaged: Row(503, "server_error", "keys_damaged"),
    Overloaded: Row(429, "rate_limit_error", "overloaded", retry_after=1),
    GeneratorUnavailable: Row(502, "upstream_error", "generator_unavailable", retry_after=5),
    CollectionDamaged: Row(503, "service_unavailable_error", "collection_damaged"),
    CacheUnavailable: Row(503, "service_unavailable_error", "cache_unavailable", retry_after=5),
    ModelNotAvailable: Row(503, "service_unavailable_error", "model_not_available"),
    ModelOutOfMemory: Row(503, "service_unavailable_error", "model_out_of_memory", retry_after=5),
    JavaNotAvailable: Row(503, "service_unavailable_error", "java_not_available"),
    StorageFull: Row(507, "server_error", "storage_full"),
    KvasirError: Row(500, "server_error", "internal_error"),
}
"""Every class of the error tree is answered as the nearest of its bases that stands here."""

_RARELY = 60
"""Retry-After of a 503 that will not pass by itself: somebody has to mend something first."""

_HTTP_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def row_of(error: Exception) -> Row:
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def problem_of(error: Exception, request: str, home: str = "") -> tuple[Problem, dict[str, str]]:
    """The body and the extra headers an error is answered with. ``home`` is kept out of the message."""
    if isinstance(error, KvasirError):
        row = row_of(error)
        message = str(error).replace(home, "$KVASIR_HOME") if home else str(error)
        retry = error.retry_after if isinstance(error, Overloaded) else row.retry_after
        param = getattr(error, "param", None) or row.param
        headers = _retry_headers(row.status, retry)
        if row.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="kvasir"'
        return _problem(row.status, message, row.type, row.code, param), headers
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _http_problem(error), dict(error.headers or {})
    log.error("request %s failed", request, exc_info=error)
    message = f"the server failed at request {request}; its log says more under this id"
    return _problem(500, message, "server_error", "internal_error", None), _retry_headers(500, None)


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    home = str(request.app.state.service.engine.home.root)
    if isinstance(error, InternalServerException) and "client disconnected" in error.detail:  # within its body
        error = Cancelled("the client went away")
    problem, headers = problem_of(error, request_id(request.scope), home)
    account_of(request.scope).error = CLIENT_LEFT if isinstance(error, Cancelled) else problem.error.code
    return Response(msgspec.json.encode(problem), status_code=problem.status, media_type=PROBLEM, headers=headers)


def _http_problem(error: HTTPException) -> Problem:
    """Routing errors and the checks of path and query parameters."""
    if isinstance(error, ValidationException):
        extra: Any = error.extra
        first: dict[str, Any] = extra[0] if isinstance(extra, list) and extra else {}
        param = str(first["key"]) if "key" in first else None
        message = f"{param}: {first.get('message', '')}" if param else str(error.detail)
        return _problem(422, message, "invalid_request_error", "invalid_parameter", param)
    status = error.status_code
    code = HTTPStatus(status).phrase.lower().replace(" ", "_")
    return _problem(status, error.detail, _HTTP_TYPES.get(status, "invalid_request_error"), code, None)


def _problem(status: int, message: str, kind: str, code: str, param: str | None) -> Problem:
    detail = ErrorDetail(message=message, type=kind, param=param, code=code)
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=message, error=detail)


def _retry_headers(status: int, retry_after: int | None) -> dict[str, str]:
    """Clients repeat a 409 or 5xx by themselves unless they are told that it will not help."""
    if retry_after is not None:
        return {"Retry-After": str(retry_after)}
    if status not in (409,) and status < 500:
        return {}
    headers = {"x-should-retry": "false"}
    return headers | {"Retry-After": str(_RARELY)} if status == 503 else headers
