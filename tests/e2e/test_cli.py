"""The command line, as a person runs it: one small collection, from a JSONL file to a server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

DOCUMENTS = [
    {"id": "ferry", "title": "Ferries", "text": "The ferry leaves every 20 minutes. Cars need a ticket.", "year": 2020},
    {"id": "tower", "title": "The lighthouse", "text": "The tower is 31 metres tall. Its lamp is green.", "year": 1901},
    {"id": "goats", "title": "Cheese", "text": "The cheese ripens for five months in a cave.", "year": 1950},
    {"id": "boats", "title": "Boats", "text": "Old boats and ferries rest in the harbour.", "year": 1950},
]
BROKEN = '{"id": "broken", "text": '


@dataclass
class Cli:
    """``kvasir`` in a process of its own, with a home of its own."""

    root: Path

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KVASIR_")}
        return inherited | {"KVASIR_HOME": str(self.root / "home"), "KVASIR_ENCODER__DEVICE": "cpu"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", "from rag.cli import main; main()", *arguments]

    def run(self, *arguments: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            env=self.environment() | environ,
            cwd=self.root,
            timeout=200,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def error(self, *arguments: str, **environ: str) -> str:
        """The one line that a failure says."""
        done = self.run(*arguments, code=2, **environ)
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert done.stdout == ""
        return line


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The collection ``isles`` from five lines, the third of them broken."""
    root = tmp_path_factory.mktemp("cli")
    lines = [json.dumps(document) for document in DOCUMENTS]
    (root / "isles.jsonl").write_text("\n".join([*lines[:2], BROKEN, *lines[2:]]))
    (root / "twice.jsonl").write_text("\n".join([lines[0], lines[0]]))
    made = Cli(root)
    built = made.json("index", "isles", "isles.jsonl")
    (root / "built.json").write_text(json.dumps(built))
    return made


def test_a_malformed_line_is_reported_by_its_number_and_the_build_goes_on(cli: Cli) -> None:
    built = json.loads((cli.root / "built.json").read_text())
    assert (built["collection"], built["version"], built["documents"], built["skipped_count"]) == ("isles", 1, 4, 1)
    (skipped,) = built["skipped"]
    assert skipped["where"] == "isles.jsonl:line 3"
    assert "not valid JSON" in skipped["why"]


def test_where_nothing_may_be_skipped_the_exit_code_says_so(cli: Cli) -> None:
    done = cli.run("index", "strict", "isles.jsonl", "--strict", code=1)
    assert "built strict@1: 4 documents, 4 chunks" in done.stdout
    (cli.root / "one.jsonl").write_text(json.dumps(DOCUMENTS[0]))
    whole = cli.run("index", "strict", "one.jsonl", "--strict")
    assert "built strict@2: 1 document, 1 chunk, " in whole.stdout
    cli.run("collections", "drop", "strict", "--yes")


def test_search_gives_ranked_results_with_every_stage_explained(cli: Cli) -> None:
    found = cli.json("search", "isles", "how tall is the lighthouse?", "--explain", "--set", "depth=50", "-k", "2")
    first, second = found["results"]
    assert (first["chunk_id"], first["rank"], second["rank"]) == ("tower#0", 1, 2)
    assert 1.0 >= first["relevance"] >= second["relevance"] >= 0.0
    assert [stage["stage"] for stage in first["explain"]] == ["bm25", "dense", "fusion"]
    assert [stage["stage"] for stage in found["trace"]["stages"]] == ["bm25", "dense", "fusion"]


def test_search_by_bm25_with_a_filter_for_people(cli: Cli) -> None:
    done = cli.run("search", "isles", "ferry boats", "-p", "bm25", "--filter", '{"year": {"gte": 2000}}', "--explain")
    assert "  1. " in done.stdout
    assert "ferry#0  Ferries" in done.stdout
    assert "boats#0" not in done.stdout
    assert re.search(r"bm25 +rank 1 +bm25 \d+\.\d{4}", done.stdout)
    assert re.search(r"bm25 \d+ ms \| total \d+ ms", done.stdout)


def test_nothing_found_is_said(cli: Cli) -> None:
    assert "nothing found" in cli.run("search", "isles", "zebra", "-p", "bm25").stdout


def test_ask_quotes_and_cites(cli: Cli) -> None:
    answer = cli.json("ask", "isles", "How tall is the tower of the lighthouse?", "--budget", "200")
    assert answer["found"]
    assert answer["answer"].startswith("The tower is 31 metres tall. [1]")
    assert answer["tokens"] <= answer["budget"] == 200
    cited = answer["citations"][0]
    text = DOCUMENTS[1]["text"]
    assert isinstance(text, str)
    assert (cited["doc_id"], text[cited["start"] : cited["end"]]) == ("tower", "The tower is 31 metres tall.")
    assert [source["number"] for source in answer["sources"]] == list(range(1, len(answer["sources"]) + 1))


def test_collections_are_listed_aliased_exported_imported_changed_and_dropped(cli: Cli) -> None:
    listed = cli.json("collections", "list")
    assert [(row["name"], row["documents"]) for row in listed["collections"]] == [("isles", 4)]
    assert "isles@1  4 documents" in cli.run("collections", "list").stdout
    assert cli.json("collections", "show", "isles")["manifest"]["documents"] == 4
    assert "documents  4" in cli.run("collections", "show", "isles").stdout
    cli.run("collections", "alias", "prod", "isles@1")
    assert cli.json("collections", "list")["aliases"] == {"prod": "isles@1"}
    assert cli.json("search", "prod", "ferry", "-p", "bm25")["results"][0]["chunk_id"] == "ferry#0"
    cli.run("collections", "export", "isles", "isles.tar.gz")
    assert cli.run("collections", "import", "copy", "isles.tar.gz").stdout == "copy@1\n"
    (cli.root / "more.jsonl").write_text(
        '{"id": "ferry", "text": "No ferry today."}\n{"id": "new", "text": "A whale."}'
    )
    assert cli.json("collections", "add", "copy", "more.jsonl") == {
        "added": 2, "updated": 1, "chunks": 2, "skipped": [], "cache_trouble": "",
    }  # fmt: skip
    assert cli.json("collections", "delete", "copy", "goats", "nowhere")["deleted"] == 1
    assert cli.json("collections", "show", "copy")["documents"] == 4 + 1 - 1
    found = cli.json("search", "copy", "ferry whale cheese", "-p", "bm25")["results"]
    assert {row["text"] for row in found if row["chunk_id"] != "boats#0"} == {"No ferry today.", "A whale."}
    assert "remove or move the alias first" in cli.error("collections", "drop", "isles", "--yes")
    cli.run("collections", "alias", "prod", "--remove")
    cli.run("collections", "drop", "copy", "--yes")
    assert [row["name"] for row in cli.json("collections", "list")["collections"]] == ["isles"]


# --- errors: one line, exit code 2 ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "isels", "q"), r"no collection 'isels' .*\(there: isles\); build it with: kvasir index isels"),
        (("search", "isles", "q", "-p", "hybird"), "no pipeline 'hybird'; did you mean 'hybrid'"),
        (("search", "isles", "q", "-p", "bm25", "-k", "0"), "k = 0; k lies between 1 and 10000"),
        (("search", "isles", " ", "-p", "bm25"), "the query is empty; ask something"),
        (("search", "isles", "q", "--set", "dept=3"), "unknown key 'pipeline.dept'; did you mean 'depth'"),
        (("search", "isles", "q", "-p", "bm25", "--filter", "{year"), "is not JSON"),
        (("collections", "show", "../x"), "is no collection name"),
        (("index", "new", "none.jsonl"), "nothing at 'none.jsonl'; name a folder, a file or"),
        (("search", "isles", "q", "--config", "none.toml"), "there is no settings file none.toml"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    assert re.search(message, cli.error(*arguments))


def test_an_encoder_that_is_not_there_is_one_line(cli: Cli) -> None:
    line = cli.error("search", "isles", "ferry", KVASIR_ENCODER__MODEL="/no/such/model")
    assert "text encoder '/no/such/model' cannot be loaded" in line


def test_an_id_that_comes_twice_stops_the_build_and_says_how_to_go_on(cli: Cli) -> None:
    done = cli.run("index", "twice", "twice.jsonl", code=2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "'ferry'" in line
    assert "nothing was published. Mend the source, or keep the first of each: --duplicates skip" in line
    assert [row["name"] for row in cli.json("collections", "list")["collections"]] == ["isles"]


def test_a_question_of_broken_bytes_is_searched_not_crashed_on(cli: Cli) -> None:
    done = subprocess.run(
        [*map(os.fsencode, cli.command("search", "isles", "-p", "bm25")), b"ferry \xff"],
        capture_output=True, env=cli.environment(), cwd=cli.root, timeout=100,
    )  # fmt: skip
    assert (done.returncode, b"ferry#0" in done.stdout) == (0, True)


# --- the program itself ---

HEAVY = ("torch", "faiss", "transformers", "sentence_transformers", "jnius", "litestar", "rich", "httpx", "numpy")


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["collections", "list", "--help"]])
def test_help_imports_nothing_heavy(cli: Cli, arguments: list[str]) -> None:
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', *sorted(set(sys.argv.pop().split(',')) & set(sys.modules))))\n"
        "from rag.cli import app\n"
        f"app({arguments!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, ",".join(HEAVY)], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_shell_completion_is_shown(cli: Cli) -> None:
    done = cli.run("--show-completion", "bash", code=0, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "complete -o default -F" in done.stdout


@pytest.mark.skipif(find_spec("api.serve") is None, reason="api/serve.py is not there yet")
def test_serve_answers_on_the_url_it_prints_and_ends_with_0_on_sigterm(cli: Cli) -> None:
    running = subprocess.Popen(
        cli.command("serve", "--port", "0"), env=cli.environment(), cwd=cli.root, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stderr is not None
        said: list[str] = []
        while not (said and (url := re.search(r"http://127\.0\.0\.1:\d+", said[-1]))):
            line = running.stderr.readline()
            assert line, f"it ended without a URL: {said}"
            said.append(line)
        with urlopen(f"{url.group()}/health", timeout=60) as response:
            assert response.status == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0, running.stderr.read()
    finally:
        running.kill()
        running.communicate()


def test_a_port_that_is_taken_is_one_line(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = cli.error("serve", "--port", str(port))
    assert line == f"error: cannot listen on 127.0.0.1:{port} (Address already in use); choose another"
