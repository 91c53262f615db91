"""The README's section of measured figures, made of files of figures and the prose beside them."""

from __future__ import annotations

from pathlib import Path

from eval.bench.home import GROUPS, Published, read_published
from eval.bench.table import markdown
from indexes.durable import write_atomic
from rag.errors import InvalidInput

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def section(folder: Path) -> str:
    """What stands between the marks: each group's table, with NAME.md of the folder, if there is one, below it."""
    parts = []
    for name in GROUPS:
        file, prose = folder / f"{name}.json", folder / f"{name}.md"
        if file.is_file():
            parts.append(_table(read_published(file)))
            parts += [prose.read_text(encoding="utf-8").strip()] if prose.is_file() else []
    if not parts:
        raise InvalidInput(f"no figures in {folder}; measure some with: kvasir-eval bench all --out {folder}")
    return "\n\n".join(parts)


def _table(found: Published) -> str:
    runs = f", median (least to most) of {found.repeats} runs" if found.repeats > 1 else ""
    how = ", transcribed from an earlier text" if found.transcribed else ""
    return f"`{found.command}`, commit {found.commit}, {found.hardware}{runs}{how}:\n\n{markdown(found.figures)}"


def between(text: str, where: str) -> tuple[str, str, str]:
    """What stands before, between and behind the marks. Raises InvalidInput where they are not there once each."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InvalidInput(f"{where} has to hold {BEGIN} and then {END} once each; the section is written between them")
    before, rest = text.split(BEGIN)
    inside, behind = rest.split(END)
    return before, inside.strip(), behind


def write_section(readme: Path, folder: Path) -> None:
    """Replaces what stands between the marks."""
    before, _, behind = between(readme.read_text(encoding="utf-8"), str(readme))
    write_atomic(readme, f"{before}{BEGIN}\n{section(folder)}\n{END}{behind}".encode())
