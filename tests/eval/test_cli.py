"""The commands end to end: real Lucene, the real encoder, a BEIR folder that can be judged by eye."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from eval import cli
from eval.trec import parse_run
from rag.errors import InvalidInput, KvasirError, SourceError
from tests.eval.conftest import write_beir

NUMBER = {"type": "number", "minimum": 0}
COUNT = {"type": "integer", "minimum": 0}


def an_object(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": values, "required": list(values), "additionalProperties": False}


SCHEMA = an_object(
    {
        "dataset": {"const": "tiny"},
        "split": {"const": "test"},
        "pipeline": {"type": "string"},
        "url": {"type": "string"},
        "overrides": {"type": "object"},
        "depth": COUNT,
        "metrics": {"type": "object", "additionalProperties": {"type": "number", "maximum": 1}},
        "queries": COUNT,
        "judged_queries": COUNT,
        "self_hits_removed": COUNT,
        "unknown_documents": COUNT,
        "resumed": COUNT,
        "concurrency": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "degraded_share": {"type": "number", "minimum": 0, "maximum": 1},
        "latency_ms": an_object({"p50": NUMBER, "p95": NUMBER}),
        "stages_ms": {"type": "object", "additionalProperties": NUMBER, "minProperties": 1},
        "stages_latency_ms": {
            "type": "object",
            "additionalProperties": an_object({"p50": NUMBER, "p95": NUMBER}),
            "minProperties": 1,
        },
        "work": an_object(
            dict.fromkeys(("prefill_tokens", "decoded_tokens", "reused_tokens", "forward_passes"), NUMBER)
        ),
        "cache_share": {"type": "number", "minimum": 0, "maximum": 1},
        "peak_memory_mb": {"type": "number", "exclusiveMinimum": 1},
        "build": an_object(
            {
                "seconds": {"type": "object", "additionalProperties": NUMBER},
                "documents": COUNT,
                "chunks": COUNT,
                "megabytes": {"type": "number", "exclusiveMinimum": 0},
                "reused": {"type": "boolean"},
            }
        ),
        "encoder": {"type": "string", "pattern": "^all-MiniLM-L6-v2:"},
        "collection": {"const": "beir-tiny"},
        "commit": {"type": ["string", "null"]},
        "command": {"type": "string"},
        "versions": {"type": "object", "additionalProperties": {"type": "string"}, "required": ["torch", "numpy"]},
        "hardware": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beir(tmp_path_factory.mktemp("beir") / "tiny")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def run(*arguments: object) -> str:
    """What a command prints on stdout; its errors are raised here."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def evaluated(folder: Path, home: Path, *more: object) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(run("beir", folder, "--home", home, "--json", *more))
    jsonschema.validate(said, SCHEMA)
    return said


@pytest.fixture(scope="module")
def first(folder: Path, home: Path) -> dict[str, Any]:
    """The first evaluation in the home directory, which builds the collection."""
    return evaluated(folder, home, "--pipeline", "bm25")


def test_the_first_evaluation_builds_the_collection(first: dict[str, Any]) -> None:
    assert first["build"]["reused"] is False
    assert (first["build"]["documents"], first["build"]["chunks"]) == (5, 5)
    assert {"read", "lucene", "encode"} <= set(first["build"]["seconds"])


def test_figures_are_those_one_sees_by_eye(first: dict[str, Any]) -> None:
    """q1 and q2 find their document first; ``moon`` finds itself, which goes, and never its judged ``fish``."""
    assert first["metrics"] == {
        "nDCG@10": pytest.approx(2 / 3),
        "R@100": pytest.approx(2 / 3),
        "RR@10": pytest.approx(2 / 3),
    }
    assert (first["queries"], first["judged_queries"], first["self_hits_removed"]) == (3, 3, 1)
    assert any("own document" in note for note in first["notes"])


@pytest.mark.parametrize("pipeline", ["dense", "hybrid", "fast-forward"])
def test_every_built_in_pipeline_runs_over_the_same_collection(
    first: dict[str, Any], folder: Path, home: Path, pipeline: str
) -> None:
    said = evaluated(folder, home, "--pipeline", pipeline)
    assert said["build"]["reused"] is True
    assert said["metrics"]["RR@10"] >= 2 / 3
    assert "dense" in said["stages_ms"] or pipeline == "fast-forward"


def test_a_changed_corpus_is_built_anew(first: dict[str, Any], tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "tiny")
    home = tmp_path / "home"
    assert evaluated(folder, home, "-p", "bm25")["build"]["reused"] is False
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text() + '{"_id": "new", "title": "", "text": "cat cat sofa"}\n')
    changed = evaluated(folder, home, "-p", "bm25")["build"]
    assert (changed["reused"], changed["documents"]) == (False, 6)
    assert evaluated(folder, home, "-p", "bm25")["build"]["reused"] is True


def test_a_named_collection_is_searched_as_it_is(first: dict[str, Any], folder: Path, home: Path) -> None:
    assert evaluated(folder, home, "-p", "bm25", "--collection", "beir-tiny")["build"]["reused"] is True
    with pytest.raises(KvasirError, match="no collection 'elsewhere'"):
        run("beir", folder, "--home", home, "--collection", "elsewhere")


def test_depth_cuts_and_overrides_are_said(first: dict[str, Any], folder: Path, home: Path, tmp_path: Path) -> None:
    said = evaluated(
        folder, home, "-p", "hybrid", "--depth", 1, "-m", "P@1", "--set", "fuse=rrf", "--run-out", tmp_path / "run"
    )
    assert (said["depth"], said["overrides"]) == (1, {"fuse": "rrf"})
    lines = (tmp_path / "run").read_text().splitlines()
    assert [line.split()[3] for line in lines] == ["1", "1", "1"]


def test_the_depth_reaches_what_the_measures_look_at(first: dict[str, Any], folder: Path, home: Path) -> None:
    assert evaluated(folder, home, "-p", "bm25", "-m", "R@150 P@1")["depth"] == 150
    assert evaluated(folder, home, "-p", "bm25", "-m", "R@5")["depth"] == 100
    with pytest.raises(InvalidInput, match=r"R@150 looks at 150 documents, --depth 100 finds no more; .*--depth 150"):
        evaluated(folder, home, "-p", "bm25", "-m", "R@150", "--depth", 100)


def test_the_written_run_scores_the_same(first: dict[str, Any], folder: Path, home: Path, tmp_path: Path) -> None:
    metrics = "nDCG@10 R@3 RR@10"
    said = evaluated(folder, home, "-p", "hybrid", "-m", metrics, "--run-out", tmp_path / "run")
    qrels = folder / "qrels" / "test.tsv"
    scored = json.loads(run("score", "--qrels", qrels, "--run", tmp_path / "run", "-m", metrics, "--json"))
    assert scored["metrics"] == said["metrics"]
    assert set(parse_run((tmp_path / "run").read_text().splitlines(), "run")) == {"q1", "q2", "moon"}


def test_result_files_of_two_pipelines_are_compared(
    first: dict[str, Any], folder: Path, home: Path, tmp_path: Path
) -> None:
    for name, cut in (("hybrid", 5), ("cut", 1)):
        evaluated(
            folder, home, "-p", "hybrid", "--depth", cut, "-m", f"nDCG@{cut}", "--result", tmp_path / f"{name}.json"
        )
    written = json.loads((tmp_path / "hybrid.json").read_text())
    assert written["per_query"]["q1"]["text"] == "What does a cat do on the sofa?"
    assert written["per_query"]["q1"]["measures"]["nDCG@5"] == 1.0
    assert written["per_query"]["q1"]["seconds"] > 0
    files = (tmp_path / "hybrid.json", tmp_path / "cut.json")
    said = json.loads(run("compare", *files, "-m", "R@1", "--json"))
    assert said["systems"]["hybrid"]["R@1"] == said["systems"]["cut"]["R@1"] > 0
    with pytest.raises(InvalidInput, match="R@5 looks at 5 documents, cut holds the best 1"):
        run("compare", *files, "-m", "R@5")
    assert said["queries"] == 3


def test_tables_for_people_hold_the_figures(first: dict[str, Any], folder: Path, home: Path, tmp_path: Path) -> None:
    said = run("beir", folder, "--home", home, "-p", "bm25", "--run-out", tmp_path / "run")
    assert "0.6667" in said
    assert "1 results that were the query's own document were removed" in said
    table = run("score", "--qrels", folder / "qrels" / "test.tsv", "--run", tmp_path / "run", "--per-query")
    assert "all 3" in table
    assert "q2" in table


def test_a_pipeline_key_that_is_not_known_is_refused_before_anything_is_built(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="dept"):
        run("beir", folder, "--home", tmp_path / "home", "--set", "dept=3")
    assert not (tmp_path / "home").exists()


def test_a_run_into_a_missing_folder_is_refused_before_anything_is_built(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="make it first"):
        run("beir", folder, "--home", tmp_path / "home", "--run-out", tmp_path / "no" / "run")
    assert not (tmp_path / "home").exists()


def test_benchmarks_without_data_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVASIR_TEST_DATA", raising=False)
    with pytest.raises(InvalidInput, match=r"--data.*kvasir demo"):
        run("bench", "bm25", "--home", tmp_path)
    with pytest.raises(InvalidInput, match="choose of: bm25, dense, build, http, start"):
        run("bench", "speed", "--home", tmp_path)


def test_an_error_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kvasir-eval", "beir", "/nowhere/at-all"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: no folder '/nowhere/at-all'")
    assert said.count("\n") == 1
    assert issubclass(SourceError, KvasirError)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom eval.cli import main\nsys.argv = ['kvasir-eval', {arguments}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {{'torch', 'transformers', 'numpy', 'faiss', 'jnius', 'ir_measures', 'ir_datasets', 'rich.table'}}\n"
        "heavy |= {{'scipy', 'matplotlib', 'yaml', 'pyarrow'}}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    for arguments in ("'--help'", *(f"'{name}', '--help'" for name in ("beir", "bench", "compare", "report", "tune"))):
        done = subprocess.run(
            [sys.executable, "-c", code.format(arguments=arguments)], capture_output=True, text=True, check=True
        )
        assert "--help" in done.stdout
        assert done.stderr == "[]\n"


def test_a_run_goes_on_from_its_rows_and_not_from_those_of_another_pipeline(
    first: dict[str, Any], folder: Path, home: Path, tmp_path: Path
) -> None:
    rows = ("--rows", tmp_path / "rows", "-p", "hybrid")
    whole = evaluated(folder, home, *rows)
    lines = (tmp_path / "rows").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows").write_bytes(b"".join(lines[:2]) + lines[2][:9])  # killed while it wrote the second query
    again = evaluated(folder, home, *rows, "--jobs", 2)
    assert (whole["resumed"], again["resumed"], again["concurrency"]) == (0, 1, [1, 2])
    assert again["metrics"] == whole["metrics"]
    assert any("with 1 and 2 queries at once" in note for note in again["notes"])
    for more in (("--set", "fuse=rrf"), ("--depth", 101), ("--set", "rerank=sentences")):
        with pytest.raises(InvalidInput, match="another pipeline, collection or version"):
            evaluated(folder, home, *rows, *more)
    assert evaluated(folder, home, *rows, "--set", "fuse=rrf", "--fresh")["resumed"] == 0
    assert evaluated(folder, home, *rows, "--set", "fuse=rrf")["resumed"] == 3
    with pytest.raises(InvalidInput, match="--rows FILE"):
        evaluated(folder, home, "--fresh")
