"""The same queries through a running server give the same run, the same answers and the same figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.beir import read_folder
from eval.bench.server import serving
from eval.server import Server
from eval.subject import served_by
from rag.errors import CollectionNotFound, InvalidInput, PipelineNotFound
from tests.eval.conftest import QUERIES, write_beir
from tests.eval.test_cli import run

SAME = ("metrics", "queries", "judged_queries", "self_hits_removed", "unknown_documents", "encoder", "work")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_beir(tmp_path_factory.mktemp("beir") / "tiny")
    said = {"q1": ["A cat sleeps on the warm sofa and purrs."], "q2": ["Norway"], "moon": []}
    rows = [{"_id": key, "text": text, "metadata": {"answers": said[key]}} for key, text in QUERIES.items()]
    (made / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.fixture(scope="module")
def home(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("home")
    run("beir", folder, "--home", made, "-p", "bm25", "--json")
    return made


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with serving(home) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize("pipeline", ["hybrid", "ask"])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_server_gives_the_librarys_run(
    folder: Path, home: Path, url: str, tmp_path: Path, pipeline: str, jobs: int
) -> None:
    common = ("beir", folder, "--home", home, "-p", pipeline, "--json", "--run-out")
    library: dict[str, Any] = json.loads(run(*common, tmp_path / "library"))
    server: dict[str, Any] = json.loads(run(*common, tmp_path / "server", "--url", url, "--jobs", jobs))
    assert (tmp_path / "server").read_bytes() == (tmp_path / "library").read_bytes()
    assert {key: server[key] for key in SAME} == {key: library[key] for key in SAME}
    assert (server["url"], server["concurrency"], server["peak_memory_mb"]) == (url, [jobs], None)
    assert server["stages_latency_ms"].keys() == library["stages_latency_ms"].keys()
    assert any("the way there and back" in note for note in server["notes"])


def test_a_depth_beyond_the_servers_pipeline_is_asked_for_as_in_the_library(
    folder: Path, home: Path, url: str, tmp_path: Path
) -> None:
    common = ("beir", folder, "--home", home, "-p", "hybrid", "--depth", 600, "--json", "--run-out")
    run(*common, tmp_path / "library")
    run(*common, tmp_path / "server", "--url", url)
    assert (tmp_path / "server").read_bytes() == (tmp_path / "library").read_bytes()


def test_a_server_gives_the_librarys_answers(folder: Path, home: Path, url: str, tmp_path: Path) -> None:
    said, kept = [], []
    for name, more in (("library", ()), ("server", ("--url", url, "--jobs", 2))):
        rows = tmp_path / name
        said.append(json.loads(run("answers", folder, "--home", home, "--json", "--rows", rows, *more)))
        lines = [json.loads(line) for line in rows.read_text().splitlines()[1:]]
        alike = ("text", "found", "cited", "context", "prompt_tokens", "completion_tokens", "prefill", "degraded")
        kept.append({line["key"]: {key: line["row"][key] for key in alike} for line in lines})
    assert kept[0] == kept[1]
    assert said[0]["metrics"] == said[1]["metrics"]
    assert kept[0]["q1"]["prompt_tokens"] > 0
    assert (said[0]["tokens"]["context_tokens"] > 0, said[1]["tokens"]["context_tokens"]) == (True, None)
    assert (said[0]["build"]["documents"], said[1]["build"]) == (5, None)
    assert (said[1]["url"], said[1]["concurrency"]) == (url, [2])


def test_what_the_server_has_not_is_said(folder: Path, home: Path, url: str) -> None:
    common = ("beir", folder, "--home", home, "--url", url)
    with pytest.raises(CollectionNotFound, match=r"elsewhere.*--collection"):
        run(*common, "--collection", "elsewhere")
    with pytest.raises(PipelineNotFound, match="hybird"):
        run(*common, "-p", "hybird")
    with pytest.raises(InvalidInput, match="dept"):
        run(*common, "-p", "hybrid", "--set", "dept=3")


def test_another_sets_collection_is_refused_even_with_the_same_ids(home: Path, url: str, tmp_path: Path) -> None:
    other = write_beir(tmp_path / "other")
    corpus = other / "corpus.jsonl"
    text = corpus.read_text()
    corpus.write_text(text.replace("A cat sleeps", "A lion sleeps"))
    with pytest.raises(InvalidInput, match=r"'cat' of 'beir-tiny'.*'A cat sleeps.*'A lion sleeps"):
        run("beir", other, "--home", home, "--url", url, "--collection", "beir-tiny")
    for name in ("corpus.jsonl", "qrels/test.tsv"):
        text = (other / name).read_text()
        (other / name).write_text(text.replace("cat", "x1").replace("dog", "x2").replace("fish", "x3"))
    with pytest.raises(InvalidInput, match="none of the 3 relevant documents"):
        run("beir", other, "--home", home, "--url", url, "--collection", "beir-tiny")


def test_rows_of_a_server_are_not_those_of_the_library(folder: Path, home: Path, url: str, tmp_path: Path) -> None:
    common = ("beir", folder, "--home", home, "-p", "bm25", "--rows", tmp_path / "rows", "--json")
    assert json.loads(run(*common, "--url", url))["resumed"] == 0
    assert json.loads(run(*common, "--url", url))["resumed"] == 3
    with pytest.raises(InvalidInput, match="--fresh"):
        run(*common)


def test_settings_that_a_server_keeps_for_itself_are_seen_by_its_scores(folder: Path, home: Path, url: str) -> None:
    dataset = read_folder(folder, "test")

    def known(url: str) -> dict[str, Any]:
        with Server(url, key="", timeout=60.0) as server:
            return served_by(server, "beir-tiny", "bm25", {"name": "bm25"}, dataset, 5) | {"url": ""}

    with serving(home, {"KVASIR_INDEX__K1": "2.0"}) as other:
        elsewhere = known(f"http://127.0.0.1:{other.port}")
    here = known(url)
    assert here == known(url)
    assert {key for key in here if here[key] != elsewhere[key]} == {"found"}
