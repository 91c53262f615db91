"""A server is asked within bounds, and whatever it answers is a result or an error that says what to do."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from eval.bench.server import free_port
from eval.server import Server, ServerUnavailable, retry_after
from eval.wire import SentStatus
from rag.errors import CollectionNotFound, InvalidInput, KvasirError, PipelineNotFound
from tests.eval.http_double import told

STATUS = {"name": "c", "version": 1, "generation": 2, "documents": 3, "chunks": 4, "encoder": "e", "more": []}


def status(url: str, key: str = "", timeout: float = 60.0, name: str = "c") -> SentStatus:
    with Server(url, key=key, timeout=timeout) as server:
        return server.status(name)


def ids(url: str) -> list[str]:
    with Server(url) as server:
        return list(server.document_ids("x"))


def problem(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    return status, headers, {"detail": "the reason", "error": {"code": code}}


def test_the_key_is_sent_as_a_bearer_token_and_ids_are_quoted() -> None:
    with told((200, {}, STATUS)) as server:
        assert status(server.url + "/", key="secret", name="a/b c").documents == 3
        status(server.url)
    assert server.keys == ["Bearer secret", None]
    assert server.paths[0] == "/v1/collections/a%2Fb%20c"


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_asked_again_after_the_time_it_names(code: int) -> None:
    with told(problem(code, "overloaded", **{"Retry-After": "1"}), (200, {}, STATUS)) as server:
        started = time.monotonic()
        assert status(server.url).chunks == 4
    assert len(server.paths) == 2
    assert 0.9 <= time.monotonic() - started < 10


def test_a_server_that_asks_for_too_long_a_wait_is_given_up_at_once() -> None:
    with told(problem(503, "warming", **{"Retry-After": "31"})) as server:
        with pytest.raises(ServerUnavailable, match=r"503 \(the reason\) and asks to wait 31 s.*the most is 30 s"):
            status(server.url)
        assert len(server.paths) == 1


def test_waiting_ends_when_it_has_taken_too_long_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.server.PATIENCE", 0.12)
    with told(problem(429, "overloaded", **{"Retry-After": "0"})) as server:
        with pytest.raises(ServerUnavailable, match="fewer --jobs"):
            status(server.url)
        assert len(server.paths) == 3  # 0.05 + 0.05 + 0.05 > 0.12


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("7") == 7.0
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert retry_after("") == retry_after("soon") == 1.0
    assert retry_after(formatdate(0, usegmt=True)) == 0.05  # long past


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (problem(404, "collection_not_found"), CollectionNotFound, "--collection"),
        (problem(404, "pipeline_not_found"), PipelineNotFound, "the reason"),
        (problem(422, "invalid_query"), InvalidInput, "the reason"),
        (problem(401, "unauthorized"), InvalidInput, "KVASIR_API_KEY"),
        ((404, {}, b"<html>no</html>"), ServerUnavailable, "<html>no.*Kvasir server"),
        (problem(500, "internal_error"), ServerUnavailable, "500: the reason"),
        ((200, {}, b"hello"), ServerUnavailable, "is --url right"),
        ((200, {}, {"name": 3}), ServerUnavailable, "is --url right"),
        ((200, {}, STATUS | {"problem": "torn"}), ServerUnavailable, "damaged: torn"),
    ],
)
def test_a_refusal_is_the_librarys_error(answer: Any, kind: type[KvasirError], says: str) -> None:
    with told(answer) as server, pytest.raises(kind, match=says):
        status(server.url)


def test_a_server_that_is_not_there_or_too_slow_is_said() -> None:
    with pytest.raises(ServerUnavailable, match=r"no server answers at .*kvasir serve"):
        status(f"http://127.0.0.1:{free_port()}")
    with told((200, {}, STATUS), delay=0.6) as server, pytest.raises(ServerUnavailable, match="--timeout"):
        status(server.url, timeout=0.2)


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no address"):
        Server(url)


def test_a_key_that_no_header_can_hold_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidInput, match="KVASIR_API_KEY") as caught:
        Server("http://127.0.0.1:1", key="ge\nheim")
    assert "heim" not in str(caught.value)


def test_documents_are_listed_page_by_page_and_not_for_ever() -> None:
    first, last = {"documents": [{"id": "a"}, {"id": "b"}], "next": "b"}, {"documents": [{"id": "c"}], "next": None}
    with told((200, {}, first), (200, {}, last)) as server:
        assert ids(server.url) == ["a", "b", "c"]
    assert server.paths[1].endswith("limit=1000&after=b")
    with told((200, {}, first)) as server, pytest.raises(ServerUnavailable, match="without an end"):
        ids(server.url)


def test_an_answer_beyond_all_bounds_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.server.LARGEST", 1000)
    with told((200, {}, b" " * 5000)) as server, pytest.raises(ServerUnavailable, match="more than 1000 bytes"):
        status(server.url)
