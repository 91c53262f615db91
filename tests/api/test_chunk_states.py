"""Cached chunk states through the API: what a response says of them, and that deletion reaches them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.config import CacheConfig, ModelConfig
from rag.keys import KeyFile
from rag.language_model import LanguageModel
from tests.api.conftest import MakeEngine
from tests.redis_server import RedisServer
from tests.tiny_models import one_thread, saved

__all__ = ["one_thread"]

QUERY = "what makes the tides?"


@pytest.fixture
def home(built_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built_home, tmp_path / "home"))


def settings(mode: str = "independent") -> dict[str, Any]:
    return {
        "model": ModelConfig(name=str(saved("llama")), device="cpu", dtype="float32"),
        "cache": CacheConfig(mode=mode, scheme="fp32", memory_mb=0),
    }


def test_responses_name_mode_share_and_reused_tokens(home: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(home, **settings("link-4"))
    body = {"model": "icr", "query": QUERY, "documents": ["The moon makes tides.", "Yeast makes dough rise."]}
    with TestClient(create_app(engine)) as client:
        first, second = (client.post("/v1/rerank", json=body).json() for _ in range(2))
        assert first["results"] == second["results"]
        assert second["trace"]["cache_mode"] == "link-4"
        assert second["trace"]["reused"] > first["trace"]["reused"]
        assert second["trace"]["tokens"] < first["trace"]["tokens"]
        assert 0 < second["trace"]["recomputed"] < 1
        plain = client.post("/v1/rerank", json=body | {"model": "sentences"}).json()
        assert "cache_mode" not in plain["trace"]
        asked = {"collection": "demo", "query": QUERY, "pipeline": {"name": "bm25", "rerank": "icr"}}
        stages = client.post("/v1/search", json=asked).json()["trace"]["stages"]
        assert stages[-1]["cache_mode"] == "link-4"
        assert "cache_mode" not in stages[0]


@pytest.mark.parametrize("kind", ["files", "redis"])
def test_a_deleted_document_leaves_no_states(kind: str, home: Path, make_engine: MakeEngine) -> None:
    with RedisServer() as server:
        rest = settings() | ({"redis_url": server.url} if kind == "redis" else {})
        engine = make_engine(home, **rest)
        asked = {"collection": "demo", "query": QUERY, "pipeline": {"name": "bm25", "rerank": "icr", "rerank_depth": 9}}
        with TestClient(create_app(engine)) as client:
            found = client.post("/v1/search", json=asked).json()["results"]
            store = engine.caching.store
            assert store is not None
            names = set(store.keys())
            assert len(names) == len(found) > 1
            deleted = client.delete(f"/v1/collections/demo/documents/{found[0]['document_id']}").json()
            assert (deleted["deleted"], "cache_trouble" in deleted) == (1, False)
            assert len(set(store.keys())) == len(names) - 1
            ids = [one["document_id"] for one in found]
            client.post("/v1/collections/demo/documents/delete", json={"ids": ids})
            assert set(store.keys()) == set()


def test_a_deleted_document_leaves_nothing_in_the_prompts_that_a_model_keeps(
    home: Path, make_engine: MakeEngine
) -> None:
    engine = make_engine(home, **settings("off"))
    asked = {"collection": "demo", "query": QUERY, "pipeline": {"name": "bm25", "rerank": "setwise", "rerank_depth": 9}}
    with TestClient(create_app(engine)) as client:
        found = client.post("/v1/search", json=asked).json()["results"]
        model = engine.language_model()
        assert isinstance(model, LanguageModel)
        assert model.kept > 0
        client.delete("/v1/collections/demo/documents/nobody")
        assert model.kept > 0
        client.delete(f"/v1/collections/demo/documents/{found[0]['document_id']}")
        assert model.kept == 0


def test_a_redis_that_is_down_degrades_nothing_and_is_named(home: Path, make_engine: MakeEngine) -> None:
    with RedisServer() as server:
        engine = make_engine(home, redis_url=server.url, **settings())
        body = {"model": "icr", "query": QUERY, "documents": ["The moon makes tides.", "Yeast makes dough rise."]}
        with TestClient(create_app(engine)) as client:
            wanted = client.post("/v1/rerank", json=body).json()
            server.stop()
            found = client.post("/v1/rerank", json=body).json()
            assert found["results"] == wanted["results"]
            assert any("had trouble (Redis" in note for note in found["trace"]["notes"])
            assert not any("trouble" in note for note in wanted["trace"]["notes"])
            deleted = client.delete("/v1/collections/demo/documents/geo/tide").json()
            assert deleted["deleted"] == 1
            assert "may still be stored" in deleted["cache_trouble"]
            assert "127.0.0.1" not in deleted["cache_trouble"] + " ".join(found["trace"]["notes"])
            dropped = client.delete("/v1/collections/demo").json()
            assert "may still be stored" in dropped["cache_trouble"]


def test_tenants_find_nothing_that_another_had_read(home: Path, make_engine: MakeEngine) -> None:
    """What the first asks again comes from its states; the second, asking the same, has everything read anew."""
    file = KeyFile(home)
    keys = {name: {"x-api-key": file.create(name, "read", tenant=name)[1]} for name in ("a", "b")}
    body = {"model": "icr", "query": QUERY, "documents": ["The moon makes tides.", "Yeast makes dough rise."]}
    with TestClient(create_app(make_engine(home, **settings()))) as client:
        asked = {who: client.post("/v1/rerank", json=body, headers=keys[who[0]]).json() for who in ("a1", "a2", "b1")}
    assert asked["a1"]["results"] == asked["a2"]["results"] == asked["b1"]["results"]
    reused = {who: answer["trace"]["reused"] for who, answer in asked.items()}
    computed = {who: answer["trace"]["tokens"] for who, answer in asked.items()}
    assert reused["a2"] > reused["a1"] == reused["b1"]
    assert computed["a2"] < computed["a1"] == computed["b1"]
