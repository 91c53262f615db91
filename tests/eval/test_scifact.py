"""SciFact's published figures come out of the pipelines that the CLI and the API use.

BM25: Anserini's BEIR "flat" index. all-MiniLM-L6-v2: the MTEB results. The real collection is encoded once for all
tests here, which takes minutes on two cores; where the data is not on the machine, the tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.report import Report
from eval.reproduce import Verdict, places, reproduce, run_command
from eval.reproductions import chosen
from eval.retrieving import run_beir
from rag.config import Settings
from tests.data import shared_data

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="session")
def scifact() -> Path:
    return shared_data("scifact")


@pytest.fixture(scope="session")
def settings(scifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings over a home that already holds the collection: its one build happens here."""
    settings = Settings(home=tmp_path_factory.mktemp("scifact-home"))
    built = run_beir(settings, str(scifact), pipeline="bm25", overrides={}, metrics="nDCG@10").subject.indexed
    assert not built.reused
    return settings


def report(settings: Settings, scifact: Path, pipeline: str) -> Report:
    """One pipeline's report, over the collection that is there: a second build would fail the test."""
    made = run_beir(settings, str(scifact), pipeline=pipeline, overrides={}, metrics="nDCG@10 R@100")
    assert made.subject.indexed.reused
    assert (made.subject.indexed.documents, len(made.dataset.qrels)) == (5183, 300)
    return made


def test_bm25_gives_anserinis_figures(settings: Settings, scifact: Path) -> None:
    values = report(settings, scifact, "bm25").scores.values
    assert values["nDCG@10"] == pytest.approx(0.6789, abs=0.0005)
    assert values["R@100"] == pytest.approx(0.9253, abs=0.0005)


def test_dense_gives_the_encoders_published_figures(settings: Settings, scifact: Path) -> None:
    values = report(settings, scifact, "dense").scores.values
    assert values["nDCG@10"] == pytest.approx(0.6451, abs=0.003)
    assert values["R@100"] == pytest.approx(0.9250, abs=0.003)


def test_published_figures_of_scifact_come_out_by_the_command(settings: Settings, scifact: Path) -> None:
    names = ["anserini-bm25/scifact", "mteb-minilm/scifact"]
    where = places(scifact.parent, None, settings.home)
    outcomes = list(reproduce([one for name in names for one in chosen([name])], where, run_command))
    assert [(outcome.verdict, outcome.why) for outcome in outcomes] == [(Verdict.REPRODUCED, "")] * 2


def test_the_default_hybrid_is_better_than_both(settings: Settings, scifact: Path) -> None:
    values = report(settings, scifact, settings.default_pipeline).scores.values
    assert values["nDCG@10"] >= 0.72
    assert values["R@100"] >= 0.95
