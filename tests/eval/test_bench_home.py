"""Benchmarks are run by group and repeatedly, kept as files, and written into a README between its marks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval.bench.figures import Figure, Figures
from eval.bench.home import GROUPS, groups, published, read_published, repeated, write_json
from eval.bench.section import BEGIN, END, between, section, write_section
from eval.bench.suite import NAMES
from rag.errors import InvalidInput
from tests.eval.test_cli import run


def figures(measured: float, floor: float | None = None) -> Figures:
    made = Figure(name="a|b", measured=measured, unit="ms", baseline=2.0, beside="bare", target=1.5, floor=floor)
    return Figures(figures=[made], commit="abc", hardware="a machine", command="kvasir-eval bench x")


def test_every_benchmark_belongs_to_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    assert set(NAMES) <= set(grouped)
    assert groups("cache, search") == ["search", "cache"]
    assert groups("") == list(GROUPS)
    with pytest.raises(InvalidInput, match="'speed'; choose of: search"):
        groups("speed")


def test_whole_runs_are_repeated_and_merged() -> None:
    measured = iter([5.0, 3.0, 4.0])
    found = repeated(lambda names: figures(next(measured)), ["x"], 3)
    assert (found.figures[0].measured, found.figures[0].spread, found.repeats) == (4.0, (3.0, 5.0), 3)
    with pytest.raises(InvalidInput, match="1 to 100"):
        repeated(lambda names: figures(1.0), ["x"], 0)


def test_kept_figures_come_back_and_a_changed_number_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "search.json"
    write_json(file, published("search", figures(3.0)).as_json())
    assert read_published(file).figures[0].compared == 3.0 / 2.0
    said = json.loads(file.read_text())
    said["figures"][0]["measured"] = 2.0
    file.write_text(json.dumps(said))
    with pytest.raises(InvalidInput, match="follows from a figure"):
        read_published(file)
    for content in ("", "[]", '{"kvasir_bench": 2}', '{"kvasir_bench": 1}'):
        file.write_text(content)
        with pytest.raises(InvalidInput, match=r"search\.json"):
            read_published(file)


def test_the_section_has_a_table_a_group_and_the_prose_below(tmp_path: Path) -> None:
    write_json(tmp_path / "cache.json", published("cache", figures(4.0, floor=1.0)).as_json())
    write_json(tmp_path / "search.json", published("search", figures(3.0)).as_json())
    (tmp_path / "search.md").write_text("What to know.\n")
    assert section(tmp_path) == (
        "`kvasir-eval bench x`, commit abc, a machine:\n\n"
        "| figure | Kvasir | baseline | ratio | target |\n"
        "|---|---|---|---|---|\n"
        "| a\\|b | 3 ms | bare: 2 ms | 1.50x | <= 1.5x |\n\n"
        "What to know.\n\n"
        "`kvasir-eval bench x`, commit abc, a machine:\n\n"
        "| figure | Kvasir | baseline | ratio | target | floor | from floor |\n"
        "|---|---|---|---|---|---|---|\n"
        "| a\\|b | 4 ms | bare: 2 ms | 2x | <= 1.5x | 1 ms | 4x |"
    )
    with pytest.raises(InvalidInput, match="no figures in"):
        section(tmp_path / "none")


def test_figures_that_were_transcribed_say_so(tmp_path: Path) -> None:
    kept = published("search", figures(3.0))
    write_json(tmp_path / "search.json", replace(kept, transcribed=True).as_json())
    assert section(tmp_path).startswith(
        "`kvasir-eval bench x`, commit abc, a machine, transcribed from an earlier text"
    )


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    write_json(tmp_path / "search.json", published("search", figures(3.0)).as_json())
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\nlast\n")
    write_section(readme, tmp_path)
    before, inside, behind = between(readme.read_text(), "")
    assert (before, inside, behind) == ("# Title\n\n", section(tmp_path), "\nlast\n")
    once = readme.read_text()
    write_section(readme, tmp_path)
    assert readme.read_text() == once
    for text in ("none", f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"):
        readme.write_text(text)
        with pytest.raises(InvalidInput, match="once each"):
            write_section(readme, tmp_path)


@pytest.mark.timeout(300)
def test_all_writes_files_and_the_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}{END}")
    size = ("--shape", "tiny", "--repeats", 1, "--home", tmp_path / "home")
    run("bench", "all", "--only", "select", "--repeat", 2, "--out", tmp_path, "--readme", readme, *size)
    found = read_published(tmp_path / "select.json")
    assert (found.transcribed, found.repeats) == (False, 2)
    assert all(figure.spread is not None for figure in found.figures)
    for figure in found.figures:
        assert figure.name in readme.read_text()
    with pytest.raises(InvalidInput, match="belong to: kvasir-eval bench all"):
        run("bench", "select", "--out", tmp_path)
    with pytest.raises(InvalidInput, match="name one with --out"):
        run("bench", "all", "--only", "select")
