"""A view of some collections has its owner's models and states, and takes nothing that was read behind passages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rag.assemble import Engine
from rag.config import settings_from
from rag.kv.reader import CachedReader
from rag.reranking.attention import AttentionReranker
from rag.views import Views
from tests.speaking_models import saved_speaking


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    raw = {
        "home": str(tmp_path),
        "model": {"name": str(saved_speaking("yes")), "device": "cpu", "dtype": "float32"},
        "cache": {"mode": "craft", "store": "memory", "scheme": "fp32"},
    }
    return Engine(settings_from(raw))


def test_who_may_use_some_collections_takes_no_variants(engine: Engine) -> None:
    views, whole = Views(engine), engine.reranker("icr")
    narrow, acme = views.of("", ("papers",)).reranker("icr"), views.of("acme", ("papers",)).reranker("icr")
    for reranker, repeats in (
        (whole, False),
        (narrow, True),
        (acme, True),
        (views.of("acme", ("*",)).reranker("icr"), False),
    ):
        assert isinstance(reranker, AttentionReranker)
        assert isinstance(reranker.model, CachedReader)
        assert reranker.model.repeats is repeats
    assert isinstance(whole, AttentionReranker)
    assert isinstance(narrow, AttentionReranker)
    assert isinstance(narrow.model, CachedReader)
    assert narrow.model.library is engine.caching.library()
    views.close()


def test_what_is_kept_of_lists_goes_with_a_deletion_whoever_deletes(engine: Engine) -> None:
    views = Views(engine)
    for deleting in (engine, views.of("", ("papers",)), views.tenant("acme")):
        of = [deleting.reranker("icr"), engine.reranker("icr")]
        for reranker in of:
            assert isinstance(reranker, AttentionReranker)
            reranker.cache.put("list", np.ones(3, np.float32))
        deleting.caching._clear()
        assert all(isinstance(one, AttentionReranker) and one.cache.get("list") is None for one in of)
    views.close()
