"""The OpenAPI document is true: its examples run, and what a fuzzer makes of it breaks nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from litestar.testing import TestClient
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from api.app import create_app
from rag.config import ModelConfig
from tests.api.conftest import Client, MakeEngine, Serving

CHECKS = (not_a_server_error, content_type_conformance, response_schema_conformance)
FEW = settings(max_examples=20, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))

LEXICAL = ModelConfig(name="lexical")

EXPECTED = {
    ("post", "/v1/search"),
    ("post", "/v1/answer"),
    ("post", "/rerank"),
    ("post", "/v1/rerank"),
    ("post", "/v2/rerank"),
    ("post", "/score"),
    ("post", "/v1/score"),
    ("post", "/v1/embeddings"),
    ("post", "/embed"),
    ("get", "/info"),
    ("post", "/v1/chat/completions"),
    ("get", "/v1/{index}/search"),
    ("get", "/v1/{index}/doc/{docid}"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{model_id}"),
    ("post", "/v1/jobs"),
    ("get", "/v1/jobs"),
    ("get", "/v1/jobs/{job_id}"),
    ("delete", "/v1/jobs/{job_id}"),
    ("get", "/v1/jobs/{job_id}/skipped"),
    ("get", "/v1/jobs/{job_id}/events"),
    ("get", "/v1/collections"),
    ("post", "/v1/collections"),
    ("get", "/v1/collections/{ref}"),
    ("delete", "/v1/collections/{ref}"),
    ("post", "/v1/collections/{ref}/documents"),
    ("get", "/v1/collections/{ref}/documents"),
    ("get", "/v1/collections/{ref}/documents/{doc_id}"),
    ("delete", "/v1/collections/{ref}/documents/{doc_id}"),
    ("post", "/v1/collections/{ref}/documents/delete"),
    ("get", "/health"),
    ("get", "/healthz"),
    ("get", "/health/live"),
    ("get", "/ping"),
    ("get", "/ready"),
    ("get", "/metrics"),
    ("get", "/v1/pipelines"),
    ("get", "/health/ready"),
}


@pytest.fixture(scope="module")
def document(client: Client) -> dict[str, Any]:
    body: dict[str, Any] = client.get("/schema/openapi.json").json()
    return body


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_both_addresses_give_the_same_document(client: Client, document: dict[str, Any]) -> None:
    assert client.get("/schema").json() == document
    assert document["openapi"].startswith("3.1")


def test_every_route_is_described(document: dict[str, Any]) -> None:
    assert {(method, path) for method, path, _ in operations(document)} == EXPECTED
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        assert ("requestBody" in operation) == (method == "post"), (method, path)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    found = set(references(document))
    assert "#/components/schemas/SearchRequest" in found
    for reference in found:
        assert reference.rpartition("/")[2] in document["components"]["schemas"], reference


def test_the_examples_run_and_their_answers_fit_the_schema(
    home: Path, make_engine: MakeEngine, document: dict[str, Any]
) -> None:
    ran = 0
    with TestClient(create_app(make_engine(home, model=LEXICAL))) as client:
        for method, path, operation in operations(document):
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in content.get("examples", {}).items():
                response = client.request(method, path.replace("{ref}", "demo"), json=example["value"])
                assert response.status_code in (200, 201), (path, name, response.text)
                if response.headers["content-type"] == "application/json":
                    described = operation["responses"][str(response.status_code)]["content"]["application/json"]
                    schema = described["schema"] | {"components": document["components"]}
                    Draft202012Validator(schema).validate(response.json())
                ran += 1
    assert ran == 33


def test_a_fuzzer_finds_no_server_error(home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    """Each operation is called with generated requests; a 5xx or an undescribed answer fails."""
    tried: list[int] = []
    with serving(make_engine(home, model=LEXICAL)) as running:
        url = running.url
        for found in schemathesis.openapi.from_url(f"{url}/schema/openapi.json").get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            fuzz(operation.as_strategy(), url, tried, aims=operation.label != "DELETE /v1/collections/{ref}")
    assert len(tried) > 100
    assert tried.count(200) > 20
    assert tried.count(422) > 20


def fuzz(cases: Any, url: str, tried: list[int], *, aims: bool) -> None:
    """Send generated cases and check the answers; half of them are aimed at a collection that is there."""

    @settings(FEW)
    @given(case=cases, aimed=st.booleans())
    def call(case: Any, aimed: bool) -> None:
        if aims and aimed:
            if "ref" in case.path_parameters:
                case.path_parameters["ref"] = "demo"
            if isinstance(case.body, dict) and "collection" in case.body:
                case.body["collection"] = "demo"
            if "index" in case.path_parameters:
                case.path_parameters["index"] = "demo"
            if isinstance(case.body, dict) and "messages" in case.body:
                case.body["model"] = "kvasir/demo"
            if isinstance(case.body, dict) and "documents" in case.body and "model" in case.body:
                case.body["model"] = "icr"
        response = case.call(base_url=url, timeout=60)
        tried.append(response.status_code)
        case.validate_response(response, checks=CHECKS)

    call()
