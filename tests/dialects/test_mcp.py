"""The tools through the protocol's own client, over HTTP and standard input, in both generations of the protocol."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from jsonschema import Draft202012Validator
from mcp.client.client import Client as McpClient
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from api.account import Account
from api.mcp.bounds import fitted
from rag.assemble import Engine
from rag.config import ModelConfig
from rag.dialects_table import DialectsConfig
from rag.encoders import SentenceEncoder
from rag.keys import KeyFile
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Array
from rag.values import Query
from tests.api.conftest import MakeEngine, Serving

GENERATIONS = ("legacy", "2026-07-28")
NAMES = ["search", "rerank", "answer", "collections"]
ASKED = "What pumps blood through the body?"


@pytest.fixture(scope="module")
def url(dialect_engine: Engine, serving: Serving) -> Iterator[str]:
    with serving(dialect_engine) as running:
        yield running.url


def through(url: str, use: Callable[[McpClient], Awaitable[Any]], mode: str = "auto") -> Any:
    """What ``use`` makes of a client at the server."""

    async def used() -> Any:
        async with McpClient(f"{url}/mcp", mode=mode) as client:
            return await use(client)

    return asyncio.run(used())


def called(url: str, name: str, mode: str = "auto", **arguments: Any) -> Any:
    return through(url, lambda client: client.call_tool(name, arguments), mode)


# --- the protocol ---


@pytest.mark.parametrize("mode", GENERATIONS)
def test_both_generations_list_the_tools_with_schemas_and_hints(url: str, mode: str) -> None:
    listed = through(url, lambda client: client.list_tools(), mode)
    assert [tool.name for tool in listed.tools] == NAMES
    for tool in listed.tools:
        for schema in (tool.input_schema, tool.output_schema):
            assert schema["type"] == "object"
            Draft202012Validator.check_schema(schema)
        hints = tool.annotations
        assert (hints.read_only_hint, hints.destructive_hint) == (True, False)
        assert (hints.idempotent_hint, hints.open_world_hint) == (True, False)
        assert tool.title
        assert len(tool.input_schema["properties"]) <= 4


@pytest.mark.parametrize("mode", GENERATIONS)
def test_every_tool_answers_in_both_generations_and_fits_its_schema(url: str, mode: str) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "search": {"query": "light", "collection": "demo", "k": 2, "filter": {"topic": "physics"}},
        "rerank": {"query": ASKED, "documents": ["Plants make sugar.", "The heart pumps blood."], "model": "icr"},
        "answer": {"question": ASKED},
        "collections": {},
    }

    async def all_of_them(client: McpClient) -> list[tuple[Any, Any]]:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        return [(tools[name], await client.call_tool(name, arguments[name])) for name in NAMES]

    for tool, result in through(url, all_of_them, mode):
        assert not result.is_error, result
        Draft202012Validator(tool.output_schema).validate(result.structured_content)
        assert result.content[0].text


def test_search_gives_what_the_library_gives(url: str, dialect_engine: Engine) -> None:
    ranking = dialect_engine.pipeline("demo").search(Query("light"), 3)
    found = called(url, "search", query="light", k=3).structured_content
    assert [one["chunk_id"] for one in found["results"]] == [hit.chunk.id for hit in ranking]
    assert [one["text"] for one in found["results"]] == [hit.chunk.text for hit in ranking]
    assert [one["relevance_score"] for one in found["results"]] == [round(ranking.relevance(h), 4) for h in ranking]
    assert found["note"] == ""


def test_answer_cites_its_sources(url: str) -> None:
    result = called(url, "answer", question=ASKED)
    found = result.structured_content
    assert found["found"]
    assert "The heart pumps blood" in found["answer"]
    assert [one["document_id"] for one in found["sources"]] == ["bio/heart"]
    assert f"[{found['sources'][0]['number']}]" in found["answer"]
    assert "bio/heart" in result.content[0].text


def test_rerank_gives_places(url: str) -> None:
    documents = ["Plants make sugar.", "The heart pumps blood.", "Nothing."]
    found = called(url, "rerank", query=ASKED, documents=documents, top_n=2).structured_content
    assert found["results"][0]["index"] == 1
    assert len(found["results"]) == 2
    assert found["model"] == "sentences"


def test_collections_are_listed_with_their_sizes(url: str) -> None:
    assert called(url, "collections").structured_content == {
        "collections": [{"name": "demo", "documents": 6, "chunks": 6}], "note": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("search", {"query": "x", "collection": "nowhere"}, "collection_not_found"),
        ("search", {"query": "x", "k": 0}, "invalid_input"),
        ("search", {"query": "x", "path": "/etc/passwd"}, "invalid_input"),
        ("search", {}, "invalid_input"),
        ("search", {"query": " "}, "invalid_query"),
        ("rerank", {"query": "x", "documents": ["a"], "model": "gpt"}, "invalid_input"),
        ("answer", {"question": "x", "filter": {"year": {"near": 1}}}, "invalid_filter"),
    ],
)
def test_what_a_tool_cannot_do_is_a_result_for_the_model_to_read(
    url: str, name: str, arguments: dict[str, Any], code: str
) -> None:
    for mode in GENERATIONS:
        result = called(url, name, mode, **arguments)
        assert result.is_error
        assert result.content[0].text.startswith(f"{code}: ")


def test_a_tool_that_is_not_there_is_an_error_of_the_protocol(url: str) -> None:
    async def refused(client: McpClient) -> None:
        with pytest.raises(MCPError, match="no tool 'delete'"):
            await client.call_tool("delete", {})

    for mode in GENERATIONS:
        through(url, refused, mode)


def test_a_request_has_an_account_like_all_others(
    dialect_engine: Engine, serving: Serving, make_engine: MakeEngine
) -> None:
    seen: list[Account] = []
    with serving(make_engine(dialect_engine.home.root)) as running:
        app: Any = running.config.app
        app.state.service.accounts.readers.append(seen.append)
        called(running.url, "search", query="light")
        called(running.url, "search", query="light", collection="nowhere")
    assert {account.route for account in seen} == {"/mcp"}
    good = next(account for account in seen if account.reports)
    assert (good.collection, good.query, good.error) == ("demo", "light", "")
    assert [account.error for account in seen if account.error] == ["collection_not_found"]


# --- bounds ---


def tokens(encoder: SentenceEncoder, texts: Sequence[str]) -> int:
    return sum(encoder.count_tokens(list(texts)))


def test_texts_are_kept_in_order_within_the_tokens(encoder: SentenceEncoder) -> None:
    texts = ["one two three", "four five six", "seven eight nine"]
    assert fitted(texts, 9, encoder) == (texts, "")
    kept, note = fitted(texts, 5, encoder)
    assert kept == ["one two three", "four five"]
    assert note == "1 more were left out and the last text is cut to stay within the limit of tokens"
    assert fitted(texts, 6, encoder) == (texts[:2], "1 more were left out to stay within the limit of tokens")
    assert fitted([], 5, encoder) == ([], "")
    for most in range(1, 12):
        assert tokens(encoder, fitted(texts, most, encoder)[0]) == min(most, 9)


def test_results_stay_within_the_settings_tokens(built_home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    engine = make_engine(built_home, dialects=DialectsConfig(mcp_tokens=60))
    with serving(engine) as running:
        found = called(running.url, "search", query="light water blood", k=6).structured_content
    assert tokens(engine.encoder, [one["text"] for one in found["results"]]) == 60
    assert "limit of tokens" in found["note"]


# --- who may ask ---

_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
_ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example", "origin": "http://evil.example"}, 403),
        ({"host": "localhost:1", "origin": "http://localhost:1"}, 200),
    ],
)
def test_pages_of_strangers_and_names_of_strangers_are_refused(url: str, headers: dict[str, str], status: int) -> None:
    assert httpx.post(f"{url}/mcp", json=_INITIALIZE, headers=_ACCEPT | headers).status_code == status


def test_an_origin_of_the_settings_is_let_in(built_home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    with serving(make_engine(built_home, server={"origins": ("http://page.example",)})) as running:
        headers = _ACCEPT | {"origin": "http://page.example"}
        assert httpx.post(f"{running.url}/mcp", json=_INITIALIZE, headers=headers).status_code == 200


def test_a_key_is_needed_where_there_are_keys_and_shows_its_collections_only(
    home: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    engine = make_engine(home)
    secret = KeyFile(home).create("narrow", scope="read", collections=("other",))[1]

    async def listed(url: str) -> Any:
        headers = {"authorization": f"Bearer {secret}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            McpClient(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
        ):
            return await client.call_tool("collections", {})

    with serving(engine) as running:
        assert httpx.post(f"{running.url}/mcp", json=_INITIALIZE, headers=_ACCEPT).status_code == 401
        page = _ACCEPT | {"authorization": f"Bearer {secret}", "origin": "http://evil.example"}
        assert httpx.post(f"{running.url}/mcp", json=_INITIALIZE, headers=page).status_code == 403
        proxied = _ACCEPT | {"authorization": f"Bearer {secret}", "host": "kvasir.example"}
        assert httpx.post(f"{running.url}/mcp", json=_INITIALIZE, headers=proxied).status_code == 200
        assert asyncio.run(listed(running.url)).structured_content["collections"] == []


def test_other_methods_and_bodies_break_nothing(url: str) -> None:
    for method in ("GET", "DELETE", "PUT"):
        refused = httpx.request(method, f"{url}/mcp", headers=_ACCEPT)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    for body in (b"", b"{", b"[]", b'{"jsonrpc": "2.0"}', b"\xff" * 10):
        response = httpx.post(f"{url}/mcp", content=body, headers=_ACCEPT | {"content-type": "application/json"})
        assert 400 <= response.status_code < 500
    assert called(url, "collections").structured_content


# --- work that nobody waits for ---


class Slow(LexicalReader):
    """Takes its time for every call, and counts them."""

    calls = 0

    def labels(self, prompts: Sequence[Prompt], labels: Sequence[int], meter: Meter) -> Array:
        Slow.calls += 1
        time.sleep(0.1)
        return super().labels(prompts, labels, meter)


def test_the_work_stops_when_the_client_leaves(built_home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    engine = make_engine(built_home, model=ModelConfig(name="own"))
    engine._language_models["own"] = Slow()
    documents = [f"Passage {i} about blood." for i in range(200)]
    Slow.calls = 0
    body = {"name": "rerank", "arguments": {"query": ASKED, "documents": documents, "model": "prp"}}
    with serving(engine) as running:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": body}
        headers = _ACCEPT | {"mcp-protocol-version": "2025-06-18"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{running.url}/mcp", json=message, headers=headers, timeout=3)
        app: Any = running.config.app
        ends = time.monotonic() + 10
        while app.state.service.workers.pending and time.monotonic() < ends:
            time.sleep(0.01)
        assert app.state.service.workers.pending == 0
    assert 0 < Slow.calls < 40, "an undisturbed heapsort of 200 passages needs many more"


# --- standard input, and what is loaded when ---


@pytest.mark.parametrize(
    ("mode", "tool", "asked"),
    [("legacy", "search", {"query": "what makes bread rise?", "k": 1}), ("2026-07-28", "collections", {})],
)
def test_kvasir_mcp_serves_one_client_over_standard_input(
    built_home: Path, mode: str, tool: str, asked: dict[str, Any]
) -> None:
    arguments = ["-c", "from rag.cli import main; main()", "mcp", "--home", str(built_home)]

    async def used() -> Any:
        transport = stdio_client(StdioServerParameters(command=sys.executable, args=arguments))
        async with McpClient(transport, mode=mode) as client:
            return await client.call_tool(tool, asked)

    found = asyncio.run(used()).structured_content
    if tool == "search":
        assert [one["document_id"] for one in found["results"]] == ["cook/bread"]
    else:
        assert [one["name"] for one in found["collections"]] == ["demo"]


def test_nothing_of_the_protocol_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, json; import rag.cli, api.app; "
        "print(json.dumps([name for name in ('mcp', 'mcp_types', 'starlette', 'pydantic') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []


def test_no_thread_is_left_behind(built_home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with serving(make_engine(built_home)) as running:
        called(running.url, "collections")
    after = {thread.name for thread in threading.enumerate()} - before
    assert not [name for name in after if name.startswith("kvasir-")]
