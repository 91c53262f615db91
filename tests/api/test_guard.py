"""Keys, scopes, collections, tenants and limits, asked of the whole application."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from litestar import get
from litestar.testing import TestClient

from api.access import ACCESS
from api.app import create_app
from api.guard import LOOK_SECONDS, check_exposure
from api.guard_headers import PROTECTING
from api.guard_limits import Bucket
from rag.config import ServerConfig, Settings
from rag.errors import InvalidConfig
from rag.keys import KeyFile, Rate
from rag.views import TENANTS
from tests.api.conftest import Client, MakeEngine, Serving, assert_problem
from tests.api.test_server import Slow, SlowEngine

SEARCH = {"collection": "demo", "query": "light", "pipeline": "bm25"}
Made = dict[str, str]


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def keyed(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    """A home with ``demo`` and ``other``, a tenant with a ``demo`` of its own, and a key of each sort."""
    home = tmp_path_factory.mktemp("keyed") / "home"
    shutil.copytree(built_home, home)
    shutil.copytree(home / "collections" / "demo", home / "collections" / "other")
    shutil.copytree(built_home, home / TENANTS / "acme")
    shutil.move(home / TENANTS / "acme" / "collections" / "demo", home / TENANTS / "acme" / "collections" / "secret")
    file = KeyFile(home)
    secrets = {
        "read": file.create("read", "read")[1],
        "write": file.create("write", "write")[1],
        "admin": file.create("admin", "admin")[1],
        "narrow": file.create("narrow", "write", collections=["demo"])[1],
        "acme": file.create("acme", "admin", tenant="acme")[1],
        "rated": file.create("rated", "read", rate="3/day")[1],
    }
    return home, secrets


@pytest.fixture(scope="module")
def locked(keyed: tuple[Path, Made], make_engine: MakeEngine) -> Iterator[tuple[Client, Made]]:
    home, secrets = keyed
    with TestClient(create_app(make_engine(home))) as client:
        yield client, secrets


def requests(client: Client) -> Iterator[tuple[str, str, str]]:
    """Method, path and access of every handler the application has, those it made by itself left out."""
    for route in client.app.routes:
        for handler in getattr(route, "route_handlers", None) or [route.route_handler]:
            for method in sorted(getattr(handler, "http_methods", {"GET"})):
                if method != "OPTIONS":
                    path = (
                        route.path_format.replace("{ref}", "demo")
                        .replace("{doc_id}", "x")
                        .replace("{rest}", "x")
                        .replace("{model}", "x")
                    )
                    yield str(method), path, handler.opt.get(ACCESS, "")


def test_every_route_says_what_it_asks_of_a_key(locked: tuple[Client, Made]) -> None:
    found = list(requests(locked[0]))
    assert {access for _, _, access in found} <= {"open", "metrics", "read", "write", "admin"}, found
    assert ("POST", "/v1/search", "read") in found
    assert ("GET", "/schema", "read") in found
    opened = {path for _, path, access in found if access == "open"}
    assert {"/health", "/healthz", "/ping", "/ready", "/health/live", "/health/ready"} <= opened
    assert not {path for path in opened if path.startswith("/v1")}


OTHERS = ("/v1/{index}/search", "/v1/{index}/doc/{docid}")
"""Routes for Anserini's clients, with its errors."""


def test_without_a_key_only_open_routes_answer(locked: tuple[Client, Made]) -> None:
    client, _ = locked
    for method, path, access in requests(client):
        answer = client.request(method, path, json={} if method == "POST" else None)
        if access == "open":
            assert answer.status_code in (200, 404, 503), path
        else:
            if path.endswith(OTHERS):
                assert (answer.status_code, list(answer.json())) == (401, ["error"])
            else:
                assert_problem(answer, 401, "not_authenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_key_does_no_more_than_its_scope(locked: tuple[Client, Made]) -> None:
    client, secrets = locked
    for method, path, access in requests(client):
        for scope, beyond in (("read", ("write", "admin")), ("write", ("admin",))):
            answer = client.request(method, path, headers=bearer(secrets[scope]), content=b"[")
            if access in beyond:
                assert_problem(answer, 403, "not_allowed")
            else:
                assert answer.status_code not in (401, 403), (path, scope)


def test_a_route_that_says_nothing_is_the_admins(keyed: tuple[Path, Made], make_engine: MakeEngine) -> None:
    @get("/forgotten")
    async def forgotten() -> str:
        return "inside"

    home, secrets = keyed
    app = create_app(make_engine(home))
    app.register(forgotten)
    with TestClient(app) as client:
        assert client.get("/forgotten").status_code == 401
        assert client.get("/forgotten", headers=bearer(secrets["write"])).status_code == 403
        assert client.get("/forgotten", headers=bearer(secrets["admin"])).text == "inside"


@pytest.mark.parametrize(
    "wrong", ["", "Bearer", "Bearer ", "Basic a", "Bearer kv_000000000000_" + "A" * 43, "bearer x", "kv_"]
)
def test_a_wrong_key_is_one_refusal(locked: tuple[Client, Made], wrong: str) -> None:
    body = assert_problem(locked[0].get("/v1/collections", headers={"authorization": wrong}), 401, "not_authenticated")
    assert "kv_0" not in str(body)


def test_the_key_may_come_in_either_header(locked: tuple[Client, Made]) -> None:
    client, secrets = locked
    assert client.post("/v1/search", json=SEARCH, headers=bearer(secrets["read"])).status_code == 200
    assert client.post("/v1/search", json=SEARCH, headers={"x-api-key": secrets["read"]}).status_code == 200
    lower = {"authorization": f"bearer {secrets['read']}"}
    assert client.post("/v1/search", json=SEARCH, headers=lower).status_code == 200


def test_a_key_of_some_collections_sees_no_other(locked: tuple[Client, Made]) -> None:
    client, secrets = locked
    mine = bearer(secrets["narrow"])
    listed = client.get("/v1/collections", headers=mine).json()
    assert [one["name"] for one in listed["collections"]] == ["demo"]
    assert client.post("/v1/search", json=SEARCH, headers=mine).status_code == 200
    hidden = [
        client.post("/v1/search", json=SEARCH | {"collection": name}, headers=mine) for name in ("other", "nowhere")
    ]
    texts = [assert_problem(one, 404, "collection_not_found")["detail"] for one in hidden]
    assert texts[0].replace("'other'", "'nowhere'") == texts[1], "what is hidden and what is not there look alike"
    document = {"documents": [{"id": "x", "text": "y"}]}
    for path in ("other", "nowhere", "other@1"):
        assert client.get(f"/v1/collections/{path}", headers=mine).status_code == 404
        assert client.get(f"/v1/collections/{path}/documents/x", headers=mine).status_code == 404
        assert client.post(f"/v1/collections/{path}/documents", json=document, headers=mine).status_code == 404
    created = client.post("/v1/collections", json={"name": "other2"} | document, headers=mine)
    assert_problem(created, 404, "collection_not_found")


def test_an_alias_opens_what_it_points_at_to_those_who_may_use_it(
    home: Path, make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine(home)
    engine.home.set_alias("prod", "demo")
    secret = KeyFile(home).create("alias", "read", collections=["prod"])[1]
    with TestClient(create_app(engine)) as client:
        found = client.post("/v1/search", json=SEARCH | {"collection": "prod"}, headers=bearer(secret))
        assert found.status_code == 200
        assert_problem(client.post("/v1/search", json=SEARCH, headers=bearer(secret)), 404)


def test_tenants_do_not_see_each_other(locked: tuple[Client, Made]) -> None:
    client, secrets = locked
    acme, ours = bearer(secrets["acme"]), bearer(secrets["admin"])
    assert [one["name"] for one in client.get("/v1/collections", headers=acme).json()["collections"]] == ["secret"]
    assert [one["name"] for one in client.get("/v1/collections", headers=ours).json()["collections"]] == [
        "demo",
        "other",
    ]
    answers = {}
    for who, headers, foreign in (("acme", acme, "demo"), ("ours", ours, "secret")):
        for name in (foreign, "nowhere"):
            answer = client.post("/v1/search", json=SEARCH | {"collection": name}, headers=headers)
            answers[who, name] = assert_problem(answer, 404)["detail"].replace(f"{name}", "X")
        assert answers[who, foreign] == answers[who, "nowhere"], "the other's name is as unknown as any"
    assert "demo" not in answers["acme", "nowhere"]
    assert "secret" not in answers["ours", "nowhere"].replace("secret X", "")
    for path in ("../secret", "..%2f..%2fcollections%2fdemo", "tenants/acme", "acme/secret"):
        assert client.get(f"/v1/collections/{path}", headers=ours).status_code in (404, 422)


def test_tenants_build_and_drop_beside_each_other(home: Path, make_engine: MakeEngine) -> None:
    file = KeyFile(home)
    keys = {name: bearer(file.create(name, "admin", tenant=name)[1]) for name in ("a", "b")}
    with TestClient(create_app(make_engine(home))) as client:
        for name, headers in keys.items():
            body = {"name": "demo", "documents": [{"id": name, "text": f"light of {name}"}]}
            assert client.post("/v1/collections", json=body, headers=headers).status_code == 201
        for name, headers in keys.items():
            hits = client.post("/v1/search", json=SEARCH, headers=headers).json()["results"]
            assert [hit["document_id"] for hit in hits] == [name]
        assert client.delete("/v1/collections/demo", headers=keys["a"]).status_code == 200
        assert client.post("/v1/search", json=SEARCH, headers=keys["a"]).status_code == 404
        assert client.post("/v1/search", json=SEARCH, headers=keys["b"]).status_code == 200
    assert (home / "collections" / "demo" / "current").exists()


def test_a_bucket_fills_evenly() -> None:
    """3 in 30 seconds: three at once, then one every ten seconds."""
    now = [0.0]
    bucket = Bucket(Rate(3, 30), lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    assert bucket.wait() == 10
    now[0] = 9.5
    assert (bucket.take(), bucket.wait()) == (False, 1)
    now[0] = 10.0
    assert (bucket.take(), bucket.take()) == (True, False)
    now[0] = 1000.0
    assert bucket.headers() == {
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "3",
        "RateLimit-Reset": "0",
        "RateLimit-Policy": "3;w=30",
    }


def test_more_requests_than_the_rate_are_told_when_to_come_back(locked: tuple[Client, Made]) -> None:
    client, secrets = locked
    answers = [client.get("/v1/collections", headers=bearer(secrets["rated"])) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert_problem(answers[3], 429, "rate_limited")
    assert 28_000 < int(answers[3].headers["retry-after"]) <= 28_800  # a third of a day
    assert "ratelimit-limit" not in client.get("/v1/collections", headers=bearer(secrets["read"])).headers


def test_more_at_once_than_the_key_may_have_are_refused(home: Path, make_engine: MakeEngine, serving: Serving) -> None:
    import threading

    import httpx

    Slow.go, Slow.running = threading.Event(), threading.Semaphore(0)
    secret = KeyFile(home).create("two", "read", concurrency=2)[1]
    question = {"collection": "demo", "question": "What pumps blood?"}
    with serving(make_engine(home, kind=SlowEngine, server={"workers": 4})) as running, ThreadPoolExecutor(2) as pool:

        def ask() -> httpx.Response:
            return httpx.post(f"{running.url}/v1/answer", json=question, headers=bearer(secret), timeout=60)

        held = [pool.submit(ask) for _ in range(2)]
        assert all(Slow.running.acquire(timeout=60) for _ in range(2))
        refused = ask()
        assert_problem(refused, 429, "rate_limited")
        assert refused.headers["retry-after"] == "1"
        Slow.go.set()
        assert [one.result().status_code for one in held] == [200, 200]
        assert ask().status_code == 200, "the places are free again"


def test_a_revoked_key_is_refused_within_a_second_and_a_new_one_let_in(
    home: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    import httpx

    file = KeyFile(home)
    with serving(make_engine(home)) as running:

        def status(headers: dict[str, str]) -> int:
            return httpx.post(f"{running.url}/v1/search", json=SEARCH, headers=headers, timeout=60).status_code

        def within_a_second(wanted: int, headers: dict[str, str]) -> None:
            end = time.perf_counter() + 1
            while status(headers) != wanted:
                assert time.perf_counter() < end
                time.sleep(LOOK_SECONDS / 5)

        assert status({}) == 200
        _, secret = file.create("one", "read")
        within_a_second(401, {})
        assert status(bearer(secret)) == 200
        file.revoke("one")
        within_a_second(401, bearer(secret))
        assert status({}) == 401


def test_unreadable_keys_let_nobody_in(home: Path, make_engine: MakeEngine) -> None:
    secret = KeyFile(home).create("one", "admin")[1]
    (home / "keys.json").write_text("{")
    with TestClient(create_app(make_engine(home))) as client:
        assert_problem(client.get("/v1/collections", headers=bearer(secret)), 503, "keys_damaged")
        assert client.get("/health").status_code == 200


# --- pages of browsers ---


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}, 200),
        ({"host": "localhost:8080", "origin": "http://localhost:8080"}, 200),
        ({"host": "[::1]:8080"}, 200),
        ({"host": "kvasir:8080"}, 200),
        ({"host": "127.0.0.1:8080", "origin": "https://evil.example"}, 403),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:9090"}, 403),
        ({"host": "127.0.0.1:8080", "origin": "null"}, 403),
        ({"host": "evil.example:8080", "origin": "http://evil.example:8080"}, 403),
        ({"host": "evil.example:8080"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "[::1"}, 403),
    ],
)
def test_pages_of_strangers_cannot_use_a_server_without_keys(client: Client, headers: Made, status: int) -> None:
    for method, path, body in (("POST", "/v1/search", SEARCH), ("GET", "/v1/collections", None)):
        answer = client.request(method, path, json=body, headers=headers)
        assert answer.status_code == status, (path, answer.text)
        assert "access-control-allow-origin" not in answer.headers


def test_the_direct_way_leaves_pages_to_the_guard(engine: Any, serving: Serving) -> None:
    import httpx

    with serving(engine) as running:
        assert httpx.post(f"{running.url}/v1/search", json=SEARCH).status_code == 200
        evil = httpx.post(f"{running.url}/v1/search", json=SEARCH, headers={"origin": "https://evil.example"})
        assert_problem(evil, 403, "not_allowed")


def test_origins_of_the_settings_may_call(home: Path, make_engine: MakeEngine) -> None:
    page = "https://app.example.com"
    with TestClient(create_app(make_engine(home, server={"origins": (page,)}))) as client:
        answer = client.post("/v1/search", json=SEARCH, headers={"origin": page})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, page)
        asks = {"origin": page, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
        assert client.options("/v1/search", headers=asks).headers["access-control-allow-origin"] == page
        evil = asks | {"origin": "https://app.example.com.evil.example"}
        assert "access-control-allow-origin" not in client.options("/v1/search", headers=evil).headers
        assert client.post("/v1/search", json=SEARCH, headers={"origin": evil["origin"]}).status_code == 403


@pytest.mark.parametrize("path", ["/health", "/v1/nothing", "/v1/collections", "/schema"])
def test_every_response_protects_browsers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert {name: headers[name] for name in PROTECTING} == PROTECTING


def test_cors_origins_are_origins() -> None:
    for wrong in ("app.example.com", "https://a/b", "https://*.example.com", ""):
        with pytest.raises(InvalidConfig, match=r"server\.origins"):
            ServerConfig(origins=(wrong,))


# --- where it listens ---


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.com"])
def test_without_keys_it_listens_on_loopback_only(tmp_path: Path, host: str) -> None:
    def settings(*, opened: bool) -> Settings:
        return Settings(home=tmp_path, server=ServerConfig(host=host, open=opened))

    with pytest.raises(InvalidConfig, match="kvasir keys create"):
        check_exposure(settings(opened=False))
    check_exposure(settings(opened=True))
    check_exposure(Settings(home=tmp_path, server=ServerConfig(host=host, published="127.0.0.1")))
    with pytest.raises(InvalidConfig, match="kvasir keys create"):
        check_exposure(Settings(home=tmp_path, server=ServerConfig(host="127.0.0.1", published=host)))
    KeyFile(tmp_path).create("one", "read")
    check_exposure(settings(opened=False))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_key(tmp_path: Path, host: str) -> None:
    check_exposure(Settings(home=tmp_path, server=ServerConfig(host=host)))
