"""One table from errors to HTTP, one shape on every route."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from litestar import Litestar, get
from litestar.handlers import ASGIRouteHandler
from litestar.testing import TestClient

import rag.errors
from api.app import ROUTES, create_app
from api.errors import TABLE, ModelNotFound, answer_error, problem_of, row_of
from api.request_id import send_request_id
from api.service import Service
from rag.assemble import Engine
from rag.config import Settings
from rag.errors import KvasirError, Overloaded
from tests.api.conftest import Client, MakeEngine, assert_problem

STATUS = {
    "BadCache": 500,
    "CacheUnavailable": 503,
    "CollectionBusy": 409,
    "CollectionDamaged": 503,
    "CollectionError": 500,
    "CollectionExists": 409,
    "CollectionNotFound": 404,
    "DeadlineExceeded": 504,
    "DuplicateDocument": 422,
    "EncoderMismatch": 409,
    "FormatNotSupported": 409,
    "GeneratorUnavailable": 502,
    "InvalidConfig": 422,
    "InvalidFilter": 422,
    "InvalidInput": 422,
    "InvalidQuery": 422,
    "JavaNotAvailable": 503,
    "KvasirError": 500,
    "ModelNotAvailable": 503,
    "ModelOutOfMemory": 503,
    "Overloaded": 429,
    "PipelineNotFound": 404,
    "SourceError": 422,
    "StorageFull": 507,
}


@pytest.mark.parametrize("name", rag.errors.__all__)
def test_every_error_of_the_tree_has_its_status(name: str) -> None:
    error = getattr(rag.errors, name)("what is the matter")
    problem, headers = problem_of(error, "r")
    assert problem.status == STATUS[name]
    assert problem.detail == problem.error.message == "what is the matter"
    if problem.status in (429, 503):
        assert int(headers["Retry-After"]) >= 1
    if problem.status >= 500 and "Retry-After" not in headers:
        assert headers["x-should-retry"] == "false"


def test_the_callers_mistake_is_never_a_5xx() -> None:
    for kind in TABLE:
        if issubclass(kind, rag.errors.InvalidInput):
            assert 400 <= row_of(kind("x")).status < 500


def test_overloaded_says_when_to_come_back() -> None:
    assert problem_of(Overloaded("full", retry_after=7), "r")[1] == {"Retry-After": "7"}


def test_the_home_directory_is_kept_out_of_messages() -> None:
    problem, _ = problem_of(KvasirError("/srv/secret/collections/x is cut short"), "r", "/srv/secret")
    assert problem.detail == "$KVASIR_HOME/collections/x is cut short"


@pytest.fixture
def wrong() -> Iterator[TestClient[Litestar]]:
    """An application with one route that fails as no route should."""

    @get("/wrong")
    async def fails() -> None:
        raise ZeroDivisionError("secret detail")

    service = Service(Engine(Settings()))
    app = Litestar(
        [fails],
        exception_handlers={Exception: answer_error},
        before_send=[send_request_id],
        logging_config=None,
        openapi_config=None,
    )
    app.state.service = service
    with TestClient(app) as client:
        yield client


def test_an_unexpected_error_tells_the_id_and_nothing_else(
    wrong: TestClient[Litestar], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "api.errors"):
        response = wrong.get("/wrong", headers={"x-request-id": "case-17"})
    body = assert_problem(response, 500, "internal_error")
    assert "case-17" in body["detail"]
    assert "secret" not in response.text
    assert "case-17" in caplog.text
    assert "secret detail" in caplog.text


ELSEWHERE = {("POST", "/embed"), ("GET", "/v1/{index:str}/search"), ("GET", "/v1/{index:str}/doc/{docid:path}")}
"""Routes of another server's clients, with that server's errors: tests/dialects."""
AS_JSON = {"content-type": "application/json"}


def _requests() -> Iterator[tuple[str, str]]:
    """Every route with a request that fails: no collection, no body, or a method it does not have."""
    for route in ROUTES:
        if isinstance(route, ASGIRouteHandler):  # the protocol behind it has errors of its own
            continue
        for path in sorted(route.paths):
            for method in sorted(route.http_methods):
                yield str(method), path


def test_a_name_that_is_no_model_is_not_found() -> None:
    problem, _ = problem_of(ModelNotFound("no model 'x'"), "r")
    assert (problem.status, problem.error.code, problem.error.param) == (404, "model_not_found", "model")


@pytest.mark.parametrize(("method", "path"), sorted(set(_requests()) - ELSEWHERE))
def test_every_route_answers_errors_in_the_one_shape(client: Client, method: str, path: str) -> None:
    filled = path.replace("{ref:str}", "nowhere").replace("{doc_id:path}", "x").replace("{rest:path}", "x")
    filled += "?collection=c" if (method, path) == ("POST", "/v1/jobs") else ""
    if "{" in path or method == "POST":
        response = client.request(method, filled, content=b"[]" if method == "POST" else None)
        assert_problem(response, 422 if method == "POST" else 404)
        if method == "POST":
            assert_problem(client.request(method, filled, content=b"{", headers=AS_JSON), 400, "malformed_body")
    refused = client.request("PATCH", filled)
    assert_problem(refused, 405, "method_not_allowed")
    assert method in refused.headers["allow"]


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v1/search/x", "/schema/x.json", "/%ff%00"])
def test_a_path_that_is_not_there_is_not_found(client: Client, path: str) -> None:
    assert_problem(client.get(path), 404, "not_found")


def test_an_oversize_body_is_refused(home: object, engine: Engine, make_engine: MakeEngine) -> None:
    small = make_engine(engine.home.root, server={"max_body_mb": 1})
    with TestClient(create_app(small)) as client:
        body = b'{"collection": "demo", "query": "' + b"x" * 2**20 + b'"}'
        for path in ("/v1/search", "/v1/answer", "/v1/collections", "/v1/collections/demo/documents", "/v1/rerank"):
            assert_problem(client.post(path, content=body), 413, "request_entity_too_large")


def test_the_request_id_is_returned_where_it_is_sane(client: Client) -> None:
    for path in ("/health", "/v1/nothing", "/schema"):
        assert client.get(path, headers={"x-request-id": "job.7:a"}).headers["x-request-id"] == "job.7:a"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", '"><script>'])
def test_another_id_is_made_where_it_is_not(client: Client, given: str) -> None:
    answered = client.get("/health", headers={b"x-request-id": given.encode()}).headers["x-request-id"]
    assert answered.encode() != given.encode()
    assert len(answered) == 16
