"""/v1/embeddings and /embed give the library's vectors in the forms OpenAI's and TEI's clients read."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.assemble import Engine
from rag.dialects_table import DialectsConfig
from tests.api.conftest import Client, MakeEngine, Serving, assert_problem
from tests.dialects.test_rerank import tei_error

TEXTS = ["Plants make sugar.", "The heart pumps blood.", "Plants make sugar."]
NAME = "all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def library(dialect_engine: Engine) -> Any:
    return dialect_engine.encoder.encode_passages(TEXTS)


@pytest.fixture(scope="module")
def own(dialect_engine: Engine, serving: Serving) -> Iterator[openai.OpenAI]:
    """OpenAI's own client at a real server."""
    with serving(dialect_engine) as running:
        yield openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0)


def embed(client: Client, **body: Any) -> Any:
    return client.post("/v1/embeddings", json=body)


def test_float_vectors_are_the_librarys(speaks: Client, library: Any, dialect_engine: Engine) -> None:
    body = embed(speaks, model=NAME, input=TEXTS).json()
    assert (body["object"], body["model"]) == ("list", NAME)
    assert [(one["object"], one["index"]) for one in body["data"]] == [("embedding", i) for i in range(3)]
    np.testing.assert_allclose([one["embedding"] for one in body["data"]], library, atol=1e-6)
    tokens = sum(dialect_engine.encoder.count_tokens(TEXTS))
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_base64_is_little_endian_float32(speaks: Client, library: Any) -> None:
    body = embed(speaks, model=NAME, input=TEXTS[0], encoding_format="base64").json()
    raw = base64.b64decode(body["data"][0]["embedding"], validate=True)
    np.testing.assert_allclose(struct.unpack(f"<{len(raw) // 4}f", raw), library[0], atol=1e-6)


def test_openais_client_reads_both(own: openai.OpenAI, library: Any) -> None:
    default = own.embeddings.create(model=NAME, input=TEXTS)  # asks for base64
    plain = own.embeddings.create(model=NAME, input=TEXTS, encoding_format="float")
    for answer in (default, plain):
        np.testing.assert_allclose([one.embedding for one in answer.data], library, atol=1e-6)
    with pytest.raises(openai.NotFoundError, match="no model 'text-embedding-3-small' embeds texts"):
        own.embeddings.create(model="text-embedding-3-small", input="x")
    with pytest.raises(openai.UnprocessableEntityError, match="send the texts themselves"):
        own.embeddings.create(model=NAME, input=[[1, 2, 3]])


def test_questions_can_be_embedded_as_questions(speaks: Client, dialect_engine: Engine) -> None:
    body = embed(speaks, input=["what pumps blood?"], input_type="query").json()
    expected = dialect_engine.encoder.encode_query("what pumps blood?")
    np.testing.assert_allclose(body["data"][0]["embedding"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1], [2]]}, "input"),
        ({"input": []}, "input"),
        ({"input": "x", "dimensions": 64}, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({}, "input"),
    ],
)
def test_what_cannot_be_embedded_is_refused(speaks: Client, body: dict[str, Any], param: str) -> None:
    problem = assert_problem(embed(speaks, **body), 422)
    assert param in (problem["error"]["param"] or problem["detail"])


def test_the_models_own_dimensions_nulls_and_unknown_fields_are_taken(speaks: Client) -> None:
    body = {"input": "x", "dimensions": 384, "encoding_format": None, "user": "u", "model": None}
    assert embed(speaks, **body).status_code == 200


def test_the_number_of_texts_and_characters_is_bounded(built_home: Path, make_engine: MakeEngine) -> None:
    small = make_engine(built_home, dialects=DialectsConfig(max_inputs=2), server={"max_rerank_chars": 10})
    with TestClient(create_app(small)) as client:
        assert "dialects.max_inputs" in assert_problem(embed(client, input=["a", "b", "c"]), 422)["detail"]
        assert "server.max_rerank_chars" in assert_problem(embed(client, input="x" * 11), 422)["detail"]
        assert embed(client, input=["a", "b"]).status_code == 200


# --- TEI ---


def test_tei_gets_a_bare_array(speaks: Client, library: Any) -> None:
    np.testing.assert_allclose(
        speaks.post("/embed", json={"inputs": TEXTS, "truncate": True}).json(), library, atol=1e-6
    )
    one = speaks.post("/embed", json={"inputs": TEXTS[0], "normalize": "true"}).json()
    np.testing.assert_allclose(one, library[:1], atol=1e-6)


def test_tei_errors_have_teis_shape(speaks: Client) -> None:
    tei_error(speaks.post("/embed", json={"inputs": []}), 400, "Empty")
    tei_error(speaks.post("/embed", json={"inputs": 7}), 422, "Validation")
    tei_error(speaks.post("/embed", content=b"{"), 422, "Validation")
    tei_error(speaks.post("/embed", json={"inputs": "x", "normalize": False}), 422, "Validation")
    tei_error(speaks.post("/embed", content=b" " * 2**25 + b"{}"), 413, "Validation")
    assert "384" in tei_error(speaks.post("/embed", json={"inputs": "x", "dimensions": 9}), 422, "Validation")
