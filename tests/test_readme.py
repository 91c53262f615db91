"""What the README shows runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from eval.bench.section import between, section
from indexes.build import BuildSettings, build
from indexes.chunking import Chunking
from indexes.home import Home
from rag.config import BUILT_IN_RERANKERS, settings_from
from rag.encoders import SentenceEncoder
from tests.fakes import ListSource
from tests.rag.documents import small_documents

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"the README shows no {language}"
    return found.group(1)


def test_the_ten_lines_run(tmp_path: Path, encoder: SentenceEncoder) -> None:
    documents = list(small_documents())[:20]
    settings = BuildSettings(chunking=Chunking("sentences"))
    build(Home(tmp_path / ".kvasir"), "python-docs", ListSource(documents), encoder, settings)
    done = subprocess.run(
        [sys.executable, "-c", block("python")], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4  # three hits and an answer


def test_the_pipeline_table_is_valid() -> None:
    assert "mine" in settings_from(tomllib.loads(block("toml"))).pipelines


def test_the_table_of_rerankers_is_valid_and_whole() -> None:
    _, table = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    settings = settings_from(tomllib.loads(table))
    assert settings.pipeline("careful").rerank == "heads"
    assert settings.reranker("heads").model == settings.model.name
    assert set(re.findall(r"^\| `([a-z-]+)` \|", README.split("## Rerankers")[1], re.MULTILINE)) >= set(
        BUILT_IN_RERANKERS
    )


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make (demo|test|serve)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_measured_section_is_what_the_kept_figures_say() -> None:
    folder = Path(__file__).parents[1] / "docs" / "bench"
    assert between(README, "README.md")[1] == section(folder)
