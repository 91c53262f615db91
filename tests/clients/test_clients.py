"""The vendors' own clients order passages by this server as the library does: one test a client and version."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from rag.assemble import Engine
from rag.config import ModelConfig
from rag.keys import KeyFile
from rag.reranking.given import Passage, as_given, place_of
from rag.values import Query
from tests.api.conftest import MakeEngine, Serving
from tests.clients.environments import HERE, python_of

QUERY = "What pumps blood through the body?"
DOCUMENTS = ["Plants make sugar.", "The heart pumps blood.", "The moon pulls the sea.", "Blood in the body is red."]
TOP_N = 3
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LITELLM_TELEMETRY": "False",
    "HF_HUB_OFFLINE": "1",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}
"""Nothing looks for anything but the server."""


class Row(NamedTuple):
    """A client. ``best`` is how many come back, ``model`` what orders them: TEI's clients name none."""

    group: str
    program: str
    name: str
    best: int = TOP_N
    model: str = "icr"

    def __str__(self) -> str:
        return f"{self.group}-{self.name}"


ROWS = (
    Row("a", "cohere", "cohere_v2"),
    Row("a", "cohere", "cohere_v1"),
    Row("a", "langchain", "langchain_cohere"),
    Row("a", "langchain", "langchain_jina"),
    Row("a", "langchain", "langchain_infinity"),
    Row("a", "llama_index", "llama_index_cohere"),
    Row("a", "llama_index", "llama_index_jina"),
    Row("a", "llama_index", "llama_index_tei", model="sentences"),
    Row("a", "haystack", "haystack_cohere", best=4),
    Row("a", "haystack", "haystack_jina"),
    Row("a", "litellm", "litellm_cohere"),
    Row("a", "litellm", "litellm_jina_ai"),
    Row("a", "litellm", "litellm_hosted_vllm"),
    Row("a", "litellm", "litellm_infinity"),
    Row("a", "litellm", "litellm_huggingface", model="sentences"),
    Row("a", "litellm", "litellm_voyage"),
    Row("a", "voyage", "voyage"),
    Row("a", "rerankers", "rerankers_tei", best=4, model="sentences"),
    Row("b", "cohere", "cohere_v2"),
    Row("b", "cohere", "cohere_v1"),
    Row("b", "haystack", "haystack_cohere", best=4),
    Row("b", "haystack", "haystack_jina"),
    Row("b", "rerankers", "rerankers_tei", best=4, model="sentences"),
)
Made = Callable[[str, str, str], Any]


@pytest.fixture(scope="module")
def made(dialect_engine: Engine, serving: Serving) -> Iterator[Made]:
    """(group, program, row) -> what the client made of this server's answers. A program runs once, with all rows."""
    told: dict[tuple[str, str], dict[str, Any]] = {}
    with serving(dialect_engine) as running:

        def result(group: str, program: str, name: str) -> Any:
            if (group, program) not in told:
                told[group, program] = run(python_of(group), program, running.url)
            found = told[group, program][name]
            assert "error" not in found, found["error"]
            return found["made"]

        yield result


def run(python: Path, program: str, url: str, **more: str) -> dict[str, Any]:
    given = {"url": url, "query": QUERY, "documents": DOCUMENTS, "model": "icr", "top_n": TOP_N} | more
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | QUIET
    done = subprocess.run(
        [str(python), str(HERE / "by-library" / f"ask_{program}.py")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_client_gets_the_librarys_order_and_scores(made: Made, dialect_engine: Engine, row: Row) -> None:
    ranking = dialect_engine.reranker(row.model).rerank(Query(QUERY), as_given([Passage(one) for one in DOCUMENTS]))
    found = made(row.group, row.program, row.name)
    assert [one[0] for one in found] == [place_of(hit) for hit in ranking][: row.best]
    assert [one[1] for one in found] == pytest.approx([ranking.relevance(hit) for hit in ranking][: row.best], abs=1e-6)
    for index, _, *text in found:
        assert text in ([], [DOCUMENTS[index]])


@pytest.mark.parametrize("group", ["a", "b"])
def test_coheres_clients_keep_extensions_and_show_errors(made: Made, group: str) -> None:
    kind, warning = made(group, "cohere", "cohere_extensions")
    assert kind == "attention"
    assert warning == "4 documents were cut to 2 tokens"
    assert "no reranker 'no-such-model'" in made(group, "cohere", "cohere_error")


@pytest.mark.parametrize("group", ["a", "b"])
def test_coheres_clients_wait_out_a_limit_of_requests(
    home: Path, make_engine: MakeEngine, serving: Serving, group: str
) -> None:
    """A key with one request a second: whoever comes sooner is told to come back, and does."""
    engine = make_engine(home, model=ModelConfig(name="lexical"))
    _, secret = KeyFile(home).create("slow", scope="read", rate="1/s")
    statuses: list[int] = []
    with serving(engine) as running:
        app: Any = running.config.app
        app.state.service.accounts.readers.append(lambda account: statuses.append(account.status))
        found = run(python_of(group), "cohere", running.url, key=secret)
    assert not any("error" in made for made in found.values()), found
    assert statuses.count(429) >= 1
    assert statuses.count(200) == 3
    assert statuses.count(422) == 1


def test_llama_indexs_jina_client_shows_the_error(made: Made) -> None:
    assert "no reranker 'no-such-model'" in made("a", "llama_index", "llama_index_jina_error")


def test_openais_client_embeds_lists_and_chats(made: Made, dialect_engine: Engine) -> None:
    vector = dialect_engine.encoder.encode_passages([QUERY])[0]
    np.testing.assert_allclose(made("b", "openai", "openai_embeddings"), vector, atol=1e-6)
    assert {"kvasir/demo", "kvasir/demo/ask", "icr"} <= set(made("b", "openai", "openai_models"))
    said, counted = made("b", "openai", "openai_chat_stream")
    assert "The heart pumps blood" in said
    assert counted == "True"
