"""``kvasir-eval bench serve``: every kind of request is answered, and a full server refuses instead of failing."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.bench.serving import held_load
from indexes.home import Home
from rag.assemble import Engine
from rag.config import load_settings


@pytest.mark.timeout(600)
def test_all_loads_are_answered_without_an_error(small_home: Home, tmp_path: Path) -> None:
    engine = Engine(load_settings(home=small_home.root, environ={}))
    figures = list(held_load(engine, "small", ["cats", "the ferry"], 0.5, names=("bm25", "rerank"), clients=(2,)))
    assert [figure.name for figure in figures] == [
        "bm25, closed, 2 clients",
        "bm25, open, 2 connections",
        "rerank, closed, 2 clients",
        "rerank, open, 2 connections",
        "rerank throughput, 32 clients",
        "rerank p50, 1 client",
        "bm25 p95 of the admitted, overloaded",
        "rerank p95 of the admitted, overloaded",
    ]
    assert all(" 0 errors" in f" {figure.note}" for figure in figures), [figure.note for figure in figures]
    assert all(figure.measured > 0 for figure in figures)
