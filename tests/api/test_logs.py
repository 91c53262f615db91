"""Lines of the log: one a request, whole, and without what nobody may read there."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import logs
from api.logs import JsonLines, Lines, TextLines
from rag.config import ServerConfig
from tests.api.conftest import MakeEngine, Serving

SECRET = "zebra-crossing-7719"


@contextmanager
def logging_to(chosen: ServerConfig) -> Iterator[io.StringIO]:
    """What the process logs meanwhile; written when the block is left."""
    stream = io.StringIO()
    lines = logs.begin(chosen, stream)
    try:
        yield stream
    finally:
        logs.end(lines)


def asked(make_engine: MakeEngine, home: Path, serving: Serving, chosen: dict[str, Any]) -> str:
    """The log of a server that is asked one question each way, and one that fails."""
    engine = make_engine(home, server=chosen)
    with logging_to(engine.settings.server) as stream, serving(engine) as running:
        body = {"collection": "demo", "query": f"heart {SECRET}", "pipeline": "bm25"}
        headers = {"x-request-id": "mine", "authorization": f"Bearer {SECRET}"}
        assert httpx.post(f"{running.url}/v1/search", json=body, headers=headers).status_code == 200
        asking = {"collection": "demo", "question": f"What pumps blood? {SECRET}"}
        assert httpx.post(f"{running.url}/v1/answer", json=asking).status_code == 200
        assert httpx.post(f"{running.url}/v1/search", json=body | {"k": 0}).status_code == 422
    return stream.getvalue()


def test_a_json_line_a_request_without_the_question(
    make_engine: MakeEngine, built_home: Path, serving: Serving
) -> None:
    text = asked(make_engine, built_home, serving, {"log": "json"})
    direct, answer, refused = [json.loads(line) for line in text.splitlines()]
    assert direct["request_id"] == "mine"
    assert (direct["method"], direct["route"], direct["status"]) == ("POST", "/v1/search", 200)
    assert (direct["collection"], direct["pipeline"], direct["level"]) == ("demo", "bm25", "info")
    assert set(direct["stages_ms"]) == {"bm25"}
    assert 0 < direct["stages_ms"]["bm25"] < direct["ms"]
    assert list(answer["stages_ms"]) == ["bm25", "dense", "fusion", "rerank", "select", "generate"]
    assert answer["tokens"] > 0
    assert (refused["status"], refused["error"]) == (422, "invalid_query")
    assert SECRET not in text


def test_questions_stand_in_lines_where_that_is_asked_for(
    make_engine: MakeEngine, built_home: Path, serving: Serving
) -> None:
    text = asked(make_engine, built_home, serving, {"log": "json", "log_queries": True})
    first, *_ = [json.loads(line) for line in text.splitlines()]
    assert first["query"] == f"heart {SECRET}"
    assert "Bearer" not in text


def test_text_lines_hold_the_same(make_engine: MakeEngine, built_home: Path, serving: Serving) -> None:
    text = asked(make_engine, built_home, serving, {"log": "text"})
    first, *rest = text.splitlines()
    assert len(rest) == 2
    assert " info kvasir.requests: request request_id=mine method=POST route=/v1/search status=200 ms=" in first
    assert SECRET not in text


def test_only_failures_are_logged_at_the_level_of_errors(
    make_engine: MakeEngine, built_home: Path, serving: Serving
) -> None:
    assert asked(make_engine, built_home, serving, {"log": "json", "log_level": "error"}) == ""


def test_off_logs_nothing(make_engine: MakeEngine, built_home: Path, serving: Serving) -> None:
    assert asked(make_engine, built_home, serving, {"log": "off"}) == ""


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_no_message_begins_a_line_of_its_own(formatter: logging.Formatter) -> None:
    record = logging.makeLogRecord({"msg": "a\n2026 info forged: b\r\nc", "levelname": "INFO", "name": "x"})
    record.kvasir = {"query": 'x"\n=y'}
    assert len(formatter.format(record).splitlines()) == 1


def test_an_exception_is_in_the_line() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", "exc_info": sys.exc_info()})
    assert "ValueError: no such thing" in json.loads(JsonLines().format(record))["exception"]


class Stuck(io.StringIO):
    """A stream that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def write(self, text: str) -> int:
        self.let_go.wait(30)
        return super().write(text)


def test_a_reader_that_stands_still_holds_up_nobody_and_lines_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_WAITING", 5)
    stream = Stuck()
    lines = Lines(TextLines(), stream)
    for i in range(20):
        lines.handle(logging.makeLogRecord({"msg": f"line {i}", "levelname": "INFO"}))
    assert lines.dropped >= 20 - 5 - 1
    stream.let_go.set()
    lines.close()
    *written, last = stream.getvalue().splitlines()
    assert len(written) == 20 - lines.dropped
    assert f"{lines.dropped} lines were dropped" in last


def test_logging_loads_nothing_of_tracing() -> None:
    code = "import sys, api.app, api.logs; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
