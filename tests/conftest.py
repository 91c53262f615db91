"""A small collection, built once a session with the packaged text encoder and the real Lucene."""

from __future__ import annotations

import pytest

from indexes.build import BuildSettings, build
from indexes.chunking import Chunking
from indexes.collection import Collection
from indexes.home import Home
from rag.encoders import SentenceEncoder
from tests.fakes import ListSource
from tests.rag.documents import small_documents


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    """The packaged text encoder, on the CPU."""
    return SentenceEncoder(device="cpu")


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Home:
    """A home with the collection ``small``; nothing may change it."""
    home = Home(tmp_path_factory.mktemp("small_home"))
    settings = BuildSettings(chunking=Chunking("sentences", 64, 16))
    build(home, "small", ListSource(list(small_documents())), encoder, settings)
    return home


@pytest.fixture(scope="session")
def small(small_home: Home) -> Collection:
    """The open collection ``small``; nothing may change it."""
    return Collection(small_home, "small")
