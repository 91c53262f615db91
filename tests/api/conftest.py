"""One small collection, built by the real build with the packaged encoder and Lucene, and clients to ask it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.collections import Posted
from api.serve import Server, server
from indexes.build import BuildSettings, build
from indexes.chunking import Chunking
from indexes.corpus import Document
from rag.assemble import Engine
from rag.config import ServerConfig, Settings
from rag.encoders import SentenceEncoder

Client = TestClient[Any]
MakeEngine = Callable[..., Engine]
Serving = Callable[[Engine], AbstractContextManager[Server]]

DOCUMENTS = (
    Document(
        "bio/leaf",
        "Photosynthesis",
        "Plants make sugar from light, water and carbon dioxide. The green pigment chlorophyll absorbs the light.",
        {"year": 2001, "topic": "biology", "tags": ("plant", "light")},
    ),
    Document(
        "bio/heart",
        "The heart",
        "The heart pumps blood through the body. It beats about seventy times a minute.",
        {"year": 2010, "topic": "biology", "tags": ("body",)},
    ),
    Document(
        "phys/light",
        "Speed of light",
        "Light travels at about 300,000 kilometres a second in a vacuum. Nothing travels faster than light.",
        {"year": 1999, "topic": "physics", "tags": ("light",)},
    ),
    Document(
        "geo/tide",
        "Tides",
        "The gravity of the moon pulls the water of the oceans and makes the tides.",
        {"year": 2015, "topic": "geography", "tags": ("water", "moon")},
    ),
    Document("cook/bread", "Bread", "Yeast makes dough rise, because it gives off carbon dioxide.", {"year": 2020}),
    Document("delete", "An awkward name", "A document may be called delete, like a route.", {"year": 2021}),
)


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


@pytest.fixture(scope="session")
def make_engine(encoder: SentenceEncoder) -> MakeEngine:
    """Engines that share the one loaded encoder."""

    def make(home: Path, *, kind: type[Engine] = Engine, server: dict[str, Any] | None = None, **rest: Any) -> Engine:
        chosen = replace(ServerConfig(port=0, workers=2, queue=64), **(server or {}))
        engine = kind(Settings(home=home, server=chosen, **rest))
        engine._encoder = encoder
        return engine

    return make


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory, make_engine: MakeEngine) -> Path:
    """A home with the collection ``demo``; never changed."""
    home = tmp_path_factory.mktemp("built")
    engine = make_engine(home)
    build(engine.home, "demo", Posted(DOCUMENTS), engine.encoder, BuildSettings(chunking=Chunking("whole")))
    return home


@pytest.fixture(scope="session")
def engine(built_home: Path, tmp_path_factory: pytest.TempPathFactory, make_engine: MakeEngine) -> Engine:
    """The engine behind ``client``; tests may add collections of their own, but leave ``demo`` alone."""
    home = tmp_path_factory.mktemp("shared") / "home"
    shutil.copytree(built_home, home)
    return make_engine(home)


@pytest.fixture(scope="session")
def client(engine: Engine) -> Iterator[Client]:
    with TestClient(create_app(engine)) as opened:
        yield opened


@pytest.fixture
def home(built_home: Path, tmp_path: Path) -> Path:
    """A copy of the built home that a test may change or break."""
    copy = tmp_path / "home"
    shutil.copytree(built_home, copy)
    return copy


@pytest.fixture
def own_client(home: Path, make_engine: MakeEngine) -> Iterator[Client]:
    """A client over a copy of the home."""
    with TestClient(create_app(make_engine(home))) as opened:
        yield opened


@pytest.fixture(scope="session")
def serving() -> Serving:
    """Runs an engine on a real uvicorn on a free loopback port; yields the server, its URL in ``url``."""

    @contextmanager
    def serve(engine: Engine) -> Iterator[Server]:
        up = threading.Event()
        running = server(engine, lambda line: up.set())
        thread = threading.Thread(target=running.run)
        thread.start()
        try:
            assert up.wait(30), "the server did not start"
            yield running
        finally:
            running.should_exit = True
            thread.join(40)
            assert not thread.is_alive(), "the server did not stop"

    return serve


def assert_problem(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The response is an error of the one shape; returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    body: dict[str, Any] = response.json()
    assert set(body) == {"type", "title", "status", "detail", "error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["type"] == "about:blank"
    assert body["status"] == status
    assert body["detail"] == body["error"]["message"] != ""
    if code is not None:
        assert body["error"]["code"] == code
    return body
