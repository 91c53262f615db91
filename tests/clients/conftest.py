"""The server of tests/dialects."""

from __future__ import annotations

from tests.api.conftest import built_home, encoder, home, make_engine, serving
from tests.dialects.conftest import dialect_engine

__all__ = ["built_home", "dialect_engine", "encoder", "home", "make_engine", "serving"]
