"""``kvasir rerank``, ``kvasir models`` and ``kvasir verify``, as a person runs them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rag.cli import app
from rag.cli_rerank import read_passages
from rag.errors import InvalidConfig, InvalidInput, InvalidQuery, ModelNotAvailable, SourceError
from rag.reranking.given import Passage, as_given, place_of
from rag.reranking.heads import head_set
from tests.data import shared_data
from tests.eval.conftest import write_beir
from tests.tiny_models import saved

LINES = "Cats sleep all day.\n\nDogs bark at the postman.\nFish swim.\n"
QUERY = "Which animals bark?"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVASIR_HOME", str(tmp_path / "home"))


def kvasir(*arguments: object, stdin: str | None = None, code: int = 0) -> str:
    """What a command prints on stdout; errors of the library are raised here."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def ranked(*arguments: object, stdin: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kvasir("rerank", QUERY, *arguments, "--json", stdin=stdin))
    return found


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text(LINES)
    return path


# --- rerank ---


def test_where_nobody_ranked_the_passages_their_order_counts_for_nothing() -> None:
    texts = ["Plants make sugar.", "Rivers carry water.", "Dogs bark.", "The heart pumps blood."]
    found = json.loads(kvasir("rerank", "what pumps blood?", "-", "-r", "sentences", "--json", stdin="\n".join(texts)))
    assert found["results"][0]["index"] == 3


def test_the_stand_in_for_a_model_is_no_reranker(lines: Path) -> None:
    with pytest.raises(InvalidConfig, match="stand-in for the language model: take the reranker icr"):
        kvasir("rerank", QUERY, lines, "-r", "lexical")


@pytest.mark.parametrize("reranker", ["icr", "prp", "setwise", "listwise", "pointwise", "likelihood"])
def test_every_reranker_finds_the_line(lines: Path, reranker: str) -> None:
    found = ranked(lines, "--reranker", reranker, "--model", "lexical")
    assert found["results"][0]["text"] == "Dogs bark at the postman."
    assert sorted(row["index"] for row in found["results"]) == [0, 1, 2]
    (stage,) = found["trace"]["stages"]
    assert stage["tokens"] > 0
    assert stage["passes"] > 0


def test_standard_input_is_read_for_a_dash_and_without_a_file() -> None:
    for arguments in (("-",), ()):
        found = ranked(*arguments, "--model", "lexical", "--top-n", 1, stdin=LINES)
        assert [row["index"] for row in found["results"]] == [1]


def test_a_tiny_model_by_its_path(lines: Path) -> None:
    found = ranked(lines, "--model", saved("mistral"))
    assert [row["kind"] for row in found["results"]] == ["attention"] * 3
    assert found["trace"]["stages"][0]["peak_mb"] > 0


@pytest.mark.parametrize("reranker", ["icr", "prp", "setwise", "listwise", "pointwise", "likelihood"])
def test_every_reranker_runs_on_a_tiny_model(lines: Path, reranker: str) -> None:
    found = ranked(lines, "--reranker", reranker, "--model", saved("qwen3"))
    assert sorted(row["index"] for row in found["results"]) == [0, 1, 2]
    assert found["trace"]["stages"][0]["passes"] > 0


def test_people_see_scores_notes_and_counts(lines: Path) -> None:
    said = kvasir("rerank", QUERY, lines, "-r", "prp", "--model", "lexical")
    assert re.search(r"^  1\. 1\.000  \[1\] Dogs bark", said, re.MULTILINE)
    assert "note: rerank: 3 pairs were compared" in said
    assert re.search(r"rerank \d+ ms \(\d+ tokens, \d+ passes\) \| total", said)


def test_limits_are_obeyed_and_said(lines: Path) -> None:
    said = kvasir("rerank", QUERY, lines, "-r", "prp", "--model", "lexical", "--max-prefill-tokens", 1)
    assert "note: rerank: partial" in said
    late = ranked(lines, "-r", "prp", "--model", "lexical", "--deadline-ms", 0.0001)
    assert [row["index"] for row in late["results"]] == [0, 1, 2]


def test_no_passages_give_no_results() -> None:
    assert ranked("--model", "lexical", stdin="\n \n")["results"] == []


def test_the_reranker_of_a_settings_file(lines: Path, tmp_path: Path) -> None:
    (tmp_path / "k.toml").write_text('[model]\nname = "lexical"\n[reranker.fast]\nkind = "setwise"\nk = 1\n')
    assert ranked(lines, "-r", "fast", "--config", tmp_path / "k.toml")["results"][0]["index"] == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("-r", "icx"), InvalidConfig, "no reranker 'icx'; did you mean 'icr'"),
        (("--model", "/no/such/model"), ModelNotAvailable, "'/no/such/model' cannot be loaded .*no such directory"),
        (("-r", "cross-encoder"), InvalidConfig, "needs rerank_model"),
    ],
)
def test_a_mistake_says_what_to_do(
    lines: Path, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kvasir("rerank", QUERY, lines, *arguments)


def test_no_model_at_all_says_what_to_set(lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVASIR_MODEL__NAME", "")
    with pytest.raises(InvalidConfig, match=r'\[model\] name = "PATH".*--model PATH.*embedded.*lexical'):
        kvasir("rerank", QUERY, lines)


def test_an_architecture_that_is_not_known_is_refused(lines: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelNotAvailable, match=r"'gpt2' has not been checked.*llama, mistral, qwen2, qwen3"):
        kvasir("rerank", QUERY, lines, "--model", tmp_path)


def test_a_model_without_a_tokenizer_is_refused(lines: Path, tmp_path: Path) -> None:
    shutil.copy(saved("llama") / "config.json", tmp_path)
    with pytest.raises(ModelNotAvailable, match="cannot be loaded"):
        kvasir("rerank", QUERY, lines, "--model", tmp_path)


def test_an_empty_query_and_a_missing_file_are_refused(lines: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidQuery, match="empty"):
        kvasir("rerank", " ", lines, "--model", "lexical")
    with pytest.raises(SourceError, match=r"cannot read .*none\.txt"):
        kvasir("rerank", QUERY, tmp_path / "none.txt", "--model", "lexical")


# --- passages ---


def test_objects_a_line_are_passages_with_titles_and_ids(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('\ufeff\n{"id": "a", "title": "T", "text": "x"}\n{"_id": 7, "text": " "}\n{"text": "y"}\n')
    assert read_passages(str(path)) == [Passage("x", "T", "a"), Passage(" ", "", "7"), Passage("y")]


@pytest.mark.parametrize("line", ["[1] a list", '"quoted"', "{not json", "7", "[" * 9999])
def test_a_first_line_that_is_no_object_makes_all_lines_plain(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.txt"
    path.write_text(line + '\n{"text": "x"}\n')
    assert read_passages(str(path)) == [Passage(line), Passage('{"text": "x"}')]


@pytest.mark.parametrize(("line", "why"), [("{", "is not JSON"), ('{"txt": 1}', "has no text"), ("[]", "has no text")])
def test_a_later_line_that_is_no_passage_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"text": "x"}\n\n' + line)
    with pytest.raises(InvalidInput, match=f"line 3 {why}"):
        read_passages(str(path))


def test_a_list_is_a_ranking_in_its_own_order() -> None:
    ranking = as_given([Passage("b"), Passage("a"), Passage("b\x00", "t", "id")])
    assert [(place_of(hit), hit.chunk.text, hit.score) for hit in ranking] == [
        (0, "b", 0),
        (1, "a", 0),
        (2, "b\ufffd", 0),
    ]
    ranked = as_given([Passage("b"), Passage("a"), Passage("b")], ranked=True)
    assert [(place_of(hit), hit.score) for hit in ranked] == [(0, 3), (1, 2), (2, 1)]
    assert [ranked.relevance(hit) for hit in ranked] == pytest.approx([1, 2 / 3, 1 / 3])


# --- verify ---


def test_the_reference_values_of_attention_reranking_are_met() -> None:
    oracle = shared_data("../oracles/icr")
    said = kvasir("verify", "icr", "--oracle", oracle)
    assert re.search(r"^PASS: largest difference \d\.\de-\d\d \(at most 1e-05\), same order 24/24$", said, re.MULTILINE)


def test_a_wrong_reference_value_fails(tmp_path: Path) -> None:
    oracle = shared_data("../oracles/icr")
    case = json.loads((oracle / "cases.jsonl").read_text().splitlines()[0])
    case["expected"]["scores"][0] += 0.1
    (tmp_path / case["model"]).symlink_to(oracle / case["model"])
    (tmp_path / "cases.jsonl").write_text(json.dumps(case))
    said = json.loads(kvasir("verify", "icr", "--oracle", tmp_path, "--json", code=1))
    assert said["passed"] is False
    assert said["largest_difference"] == pytest.approx(0.1, abs=1e-4)
    assert "FAIL" in kvasir("verify", "icr", "--oracle", tmp_path, code=1)


def test_the_reference_orders_of_pairwise_sorting_are_met(tmp_path: Path) -> None:
    oracle = shared_data("../oracles/prp")
    assert "PASS: 38/38 cases" in kvasir("verify", "prp", "--oracle", oracle)
    case = json.loads((oracle / "cases.jsonl").read_text().splitlines()[1])
    case["expected"]["heapsort"]["comparisons"] += 1
    (tmp_path / "cases.jsonl").write_text(json.dumps(case))
    said = json.loads(kvasir("verify", "prp", "--oracle", tmp_path, "--json", code=1))
    assert (said["passed"], said["cases"], said["cases_passed"]) == (False, 1, 0)
    assert "heapsort comparisons" in said["failures"][0]


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    for kind in ("icr", "prp"):
        with pytest.raises(InvalidInput, match=r"cases\.jsonl"):
            kvasir("verify", kind, "--oracle", tmp_path)


# --- models ---


def test_models_lists_families_rerankers_and_head_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.loads(kvasir("models", "list", "--json"))
    assert "llama" in said["families"]["llama-3"]
    assert said["rerankers"]["icr"]["kind"] == "icr"
    assert said["heads"]["qrhead-llama-3.1-8b-nq"]["heads"][0] == [14, 22]
    shown = kvasir("models", "list")
    assert "core-llama-3.1-8b" in shown
    assert "language model: embedded" in shown
    monkeypatch.setenv("KVASIR_MODEL__NAME", "")
    assert "none is set" in kvasir("models", "list")


@pytest.mark.parametrize("criterion", ["qrhead", "core"])
def test_heads_are_found_written_and_used(tmp_path: Path, lines: Path, criterion: str) -> None:
    folder, out = write_beir(tmp_path / "tiny"), tmp_path / "heads.toml"
    run = tmp_path / "run.trec"
    order = ["cat", "dog", "fish", "moon", "nowhere"]
    run.write_text("".join(f"{q} Q0 {doc} {i} {9 - i} t\n" for q in ("q1", "q2") for i, doc in enumerate(order)))
    model = saved("llama")
    common = ["--data", folder, "--split", "test", "--model", model, "--out", out]
    said = kvasir("models", "heads", *common, "--run", run, "--criterion", criterion, "--size", 3, "--json")
    found = json.loads(said)
    assert (found["queries"], found["candidates"], len(found["heads"])) == (2, "run.trec", 3)
    assert [list(head) for head in head_set(str(out)).heads] == found["heads"]
    (tmp_path / "k.toml").write_text(f'[reranker.icr]\nheads = "{out}"\n')
    assert len(ranked(lines, "--model", model, "--config", tmp_path / "k.toml")["results"]) == 3
    with pytest.raises(InvalidConfig, match="was found for tiny-llama"):
        ranked(lines, "--model", saved("mistral"), "--config", tmp_path / "k.toml")


def test_without_a_run_the_candidates_are_relevant_passages_and_bm25s_best_others(tmp_path: Path) -> None:
    from eval.beir import read_folder
    from eval.heads import with_bm25_negatives
    from indexes.readers.beir import Beir

    folder = write_beir(tmp_path / "tiny")
    dataset = read_folder(folder, "test")
    texts = {document.id: document for document in Beir(folder).documents(lambda skipped: None)}
    found = with_bm25_negatives(dataset, dataset.queries, texts, 4, 512)
    assert found["q1"][0] == "cat"
    assert found["moon"] == ["fish", "moon"]
    out = tmp_path / "heads.toml"
    said = kvasir(
        "models", "heads", "--data", folder, "--split", "test", "--model", saved("qwen3"), "--out", out, "--size", 2
    )
    assert "3 examples, candidates: relevant passages and BM25 negatives" in said


def test_head_detection_refuses_what_cannot_work(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "tiny")
    common = ["--data", folder, "--split", "test", "--model", saved("llama")]
    with pytest.raises(InvalidInput, match="make it first"):
        kvasir("models", "heads", *common, "--out", tmp_path / "no" / "heads.toml")
    with pytest.raises(InvalidInput, match="has 12 heads"):
        kvasir("models", "heads", *common, "--out", tmp_path / "heads.toml", "--size", 13)


@pytest.mark.parametrize("arguments", [["rerank", "--help"], ["models", "heads", "--help"], ["verify", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import atexit, sys\n"
        "heavy = {'torch', 'transformers', 'numpy', 'faiss', 'jnius', 'rich', 'tokenizers'}\n"
        "atexit.register(lambda: print('loaded:', *sorted(heavy & set(sys.modules))))\n"
        f"from rag.cli import app\napp({arguments!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_verify_selection_says_what_it_checked() -> None:
    out = kvasir("verify", "selection", "--small", 3, "--quick")
    assert out.splitlines()[-1].startswith("PASS after")
    assert "3 of 3" in out
