"""Reranking given lists: figures that can be redone by hand, and the published one of the pool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from eval.rerank import Lists, load_lists, rerank_lists
from eval.trec import Scored, parse_run
from rag.errors import InvalidConfig, InvalidInput, SourceError
from rag.protocols import Reranker
from rag.reranking.given import Passage
from rag.values import Query, Ranking
from tests.data import shared_data
from tests.eval.conftest import write_beir
from tests.eval.test_cli import COUNT, NUMBER, an_object, run
from tests.tiny_models import saved

COUNTED = an_object({"mean": NUMBER, "total": NUMBER})
MEASURED = {"type": "object", "additionalProperties": {"type": "number", "maximum": 1}}
SCHEMA = an_object(
    {
        "dataset": {"type": "string"},
        "run": {"const": "run.trec"},
        "reranker": {"type": "string"},
        "model": {"type": "string"},
        "depth": COUNT,
        "queries": COUNT,
        "judged_queries": COUNT,
        "metrics": an_object({"given": MEASURED, "reranked": MEASURED}),
        "latency_ms": an_object({"p50": NUMBER, "p95": NUMBER}),
        "forward_passes": COUNTED,
        "prefill_tokens": COUNTED,
        "decoded_tokens": COUNTED,
        "reused_tokens": COUNTED,
        "cache_mode": {"type": "string"},
        "stages_latency_ms": {
            "type": "object",
            "additionalProperties": an_object({"p50": NUMBER, "p95": NUMBER}),
            "minProperties": 1,
        },
        "cache_share": {"type": "number", "minimum": 0, "maximum": 1},
        "recomputed_share": {"type": "number", "minimum": 0},
        "peak_mb": NUMBER,
        "degraded_share": {"type": "number", "minimum": 0, "maximum": 1},
        "peak_memory_mb": NUMBER,
        "commit": {"type": ["string", "null"]},
        "command": {"type": "string"},
        "versions": {"type": "object", "additionalProperties": {"type": "string"}},
        "hardware": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
    }
)
ORDER = {"q1": ["bread", "moon", "cat", "dog"], "q2": ["cat", "dog", "fish"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """q1's judged document stands third, q2's second; the judged query ``moon`` has no list."""
    made = write_beir(tmp_path / "tiny")
    lines = [f"{q} Q0 {doc} {r} {9 - r} given\n" for q, docs in ORDER.items() for r, doc in enumerate(docs, start=1)]
    (tmp_path / "run.trec").write_text("".join(lines))
    return made


def reranked(folder: Path, *more: object) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(
        run("rerank", "--dataset", folder, "--run", folder.parent / "run.trec", "--metrics", "RR@10", "--json", *more)
    )
    jsonschema.validate(said, SCHEMA)
    return said


def test_the_run_as_it_is_scores_what_one_sees_by_eye(folder: Path) -> None:
    said = reranked(folder, "--reranker", "none")
    expected = (1 / 3 + 1 / 2 + 0) / 3
    assert said["metrics"]["given"]["RR@10"] == said["metrics"]["reranked"]["RR@10"] == pytest.approx(expected)
    assert (said["queries"], said["judged_queries"]) == (2, 3)
    assert said["prefill_tokens"] == {"mean": 0, "total": 0}
    assert "1 judged queries have no list and score 0" in said["notes"]


def test_a_list_that_is_not_reranked_keeps_its_order_in_the_run_that_is_written(folder: Path, tmp_path: Path) -> None:
    reranked(folder, "--reranker", "none", "--run-out", tmp_path / "out.trec")
    rows = [line.split() for line in (tmp_path / "out.trec").read_text().splitlines()]
    for query, docs in ORDER.items():
        scores = {doc: float(score) for name, _, doc, _, score, _ in rows if name == query}
        assert sorted(scores, key=lambda doc: -scores[doc]) == docs
        assert len(set(scores.values())) == len(docs)


def test_a_reranker_is_told_the_first_stages_order() -> None:
    seen: list[list[float]] = []

    class Recorder(Reranker):
        def rerank(self, query: Query, ranking: Ranking) -> Ranking:
            seen.append([hit.score for hit in ranking])
            return ranking

    passages = {name: Passage(name, "", name) for name in "abc"}
    given = {"q": tuple(Scored(name, score) for name, score in (("b", 9.0), ("c", 5.0), ("a", 1.0)))}
    rerank_lists(Recorder(), Lists("made", {"q": "what?"}, given, passages, {"q": {"a": 1}}))
    assert seen[-1] == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("reranker", ["icr", "prp", "setwise", "listwise", "pointwise", "likelihood"])
def test_the_stand_in_puts_the_judged_documents_first(folder: Path, reranker: str) -> None:
    said = reranked(folder, "--reranker", reranker, "--model", "lexical")
    assert said["metrics"]["given"]["RR@10"] == pytest.approx(5 / 18)
    assert said["metrics"]["reranked"]["RR@10"] == pytest.approx(2 / 3)
    assert said["forward_passes"]["total"] == 2 * said["forward_passes"]["mean"] > 0
    assert said["degraded_share"] == 0
    assert any("stand-in" in note for note in said["notes"])


def test_a_real_runtime_with_random_weights_runs(folder: Path) -> None:
    said = reranked(folder, "--reranker", "icr", "--model", saved("qwen2"))
    assert said["model"] == str(saved("qwen2"))
    assert said["forward_passes"] == {"mean": 3, "total": 6}
    assert said["peak_mb"] > 0


@pytest.mark.parametrize("reranker", ["prp", "setwise", "listwise", "pointwise", "likelihood"])
def test_every_reranker_runs_on_a_tiny_model(folder: Path, reranker: str) -> None:
    said = reranked(folder, "--reranker", reranker, "--model", saved("qwen3"))
    assert said["forward_passes"]["total"] > 0
    assert 0 < said["metrics"]["reranked"]["RR@10"] <= 1


def test_only_the_depth_is_reranked_and_the_first_queries_are_taken(folder: Path) -> None:
    said = reranked(folder, "--reranker", "icr", "--model", "lexical", "--depth", 2)
    assert said["metrics"]["reranked"]["RR@10"] == pytest.approx((1 / 3 + 1) / 3)
    one = reranked(folder, "--reranker", "icr", "--model", "lexical", "--limit", 1)
    assert (one["queries"], one["judged_queries"], one["metrics"]["given"]["RR@10"]) == (1, 1, pytest.approx(1 / 3))


def test_limits_show_in_the_share_of_degraded_queries(folder: Path) -> None:
    said = reranked(folder, "--reranker", "prp", "--model", "lexical", "--max-prefill-tokens", 1)
    assert said["degraded_share"] == 1
    assert said["metrics"]["reranked"] == said["metrics"]["given"]
    assert any("max_prefill_tokens = 1" in note for note in said["notes"])


def test_the_written_run_has_the_new_order(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.trec"
    said = reranked(folder, "--reranker", "setwise", "--model", "lexical", "--run-out", out)
    written = parse_run(out.read_text().splitlines(), "out")
    assert {q: sorted(d.doc_id for d in docs) for q, docs in written.items()} == {
        q: sorted(d) for q, d in ORDER.items()
    }
    assert written["q1"][0].doc_id == "cat"
    qrels = folder / "qrels" / "test.tsv"
    scored = json.loads(run("score", "--qrels", qrels, "--run", out, "--metrics", "RR@10", "--json"))
    assert scored["metrics"] == said["metrics"]["reranked"]


def test_people_see_both_columns(folder: Path) -> None:
    arguments = ("--dataset", folder, "--run", folder.parent / "run.trec", "-r", "icr", "--model", "lexical")
    said = run("rerank", *arguments, "-m", "RR@10")
    assert "0.2778" in said
    assert "0.6667" in said
    assert "forward passes a query" in said


def test_judgements_of_a_pool_stand_before_those_of_the_split(folder: Path) -> None:
    (folder / "qrels.full.txt").write_text("q1 0 bread 1\n")
    assert reranked(folder, "--reranker", "none")["metrics"]["given"]["RR@10"] == 1
    other = folder.parent / "other.txt"
    other.write_text("q1 0 moon 1\n")
    assert reranked(folder, "--reranker", "none", "--qrels", other)["metrics"]["given"]["RR@10"] == 1 / 2


def test_equal_scores_stay_in_the_order_of_the_file(folder: Path) -> None:
    path = folder.parent / "ties.trec"
    path.write_text("q1 Q0 cat 1 5 t\nq1 Q0 moon 2 5 t\nq1 Q0 dog 3 9 t\n")
    assert [document.doc_id for document in load_lists(folder, path).given["q1"]] == ["dog", "cat", "moon"]


def test_lists_without_their_texts_are_refused(folder: Path) -> None:
    path = folder.parent / "run.trec"
    path.write_text("q1 Q0 cat 1 2 t\nq1 Q0 unknown 2 1 t\n")
    with pytest.raises(InvalidInput, match=r"1 documents of the run are not in .*'unknown'"):
        load_lists(folder, path)
    path.write_text("other Q0 cat 1 2 t\n")
    with pytest.raises(InvalidInput, match="do they belong to the same set"):
        load_lists(folder, path)
    with pytest.raises(SourceError, match="cannot read"):
        load_lists(folder, folder / "none.trec")
    with pytest.raises(SourceError, match=r"no corpus\.jsonl"):
        load_lists(folder.parent, path)


def test_a_wrong_reranker_is_refused_before_anything_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVASIR_MODEL__NAME", "")
    with pytest.raises(InvalidConfig, match="did you mean 'setwise'"):
        reranked(folder, "--reranker", "setwize")
    with pytest.raises(InvalidConfig, match="--model"):
        reranked(folder, "--reranker", "icr")
    with pytest.raises(InvalidInput, match="make it first"):
        reranked(folder, "--reranker", "none", "--run-out", folder / "no" / "run")


def test_the_given_bm25_lists_of_trec_dl19_score_as_published() -> None:
    pool = shared_data("trec-dl19-pool")
    said = json.loads(
        run("rerank", "--dataset", pool, "--run", pool / "runs" / "BM25.trec", "--reranker", "none", "--json")
    )
    assert round(said["metrics"]["given"]["nDCG@10"], 4) == 0.5058
    assert said["metrics"]["reranked"] == said["metrics"]["given"]
    assert (said["queries"], said["judged_queries"]) == (43, 43)


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("SPLADE_P_P_ENSEMBLE_DISTIL", 0.7308),
        ("BM25_RM3", 0.5216),
        ("D_BERT_KD_TASB", 0.7210),
        ("OPEN_AI_ADA2", 0.7035),
        ("REP_LLAMA", 0.7445),
    ],
)
def test_the_lists_of_other_systems_score_as_published(system: str, expected: float) -> None:
    from eval.measures import parse_measures, score

    pool = shared_data("trec-dl19-pool")
    lists = load_lists(pool, pool / "runs" / f"{system}.trec")
    found = score(lists.qrels, rerank_lists(None, lists).run, parse_measures("nDCG@10"))
    assert round(found.values["nDCG@10"], 4) == expected
