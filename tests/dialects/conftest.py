"""The collection and the clients of tests/api, with the stand-in for a language model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.assemble import Engine
from rag.config import ModelConfig
from tests.api.conftest import Client, MakeEngine, built_home, encoder, home, make_engine, serving

__all__ = ["built_home", "encoder", "home", "make_engine", "serving"]


@pytest.fixture(scope="session")
def dialect_engine(built_home: Path, make_engine: MakeEngine) -> Engine:
    return make_engine(built_home, model=ModelConfig(name="lexical"))


@pytest.fixture(scope="session")
def speaks(dialect_engine: Engine) -> Iterator[Client]:
    """A client of the server with the collection ``demo``; nothing may change it."""
    with TestClient(create_app(dialect_engine)) as opened:
        yield opened
