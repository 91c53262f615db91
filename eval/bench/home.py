"""All benchmarks by group: repeated, with where and how they were measured, as files that others read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.bench.figures import Figure, Figures, figure_from, merged
from eval.machine import command, commit, hardware
from indexes.durable import write_atomic
from rag.errors import InvalidInput

GROUPS: Mapping[str, tuple[str, ...]] = {
    "search": ("bm25", "dense", "build", "http", "start"),
    "rerank": ("rerank",),
    "cache": ("cache",),
    "select": ("select",),
    "serve": ("serve",),
}
"""Name of a group, which is that of its file, to its benchmarks."""
ALL = "all"
MARK, FORMAT = "kvasir_bench", 1
MAX_REPEAT = 100

Run = Callable[[Sequence[str]], Figures]
"""Runs benchmarks by name, once."""


def groups(only: str) -> list[str]:
    """The groups named with commas, all where none is. Raises InvalidInput for one that is none."""
    named = [part.strip() for part in only.split(",") if part.strip()]
    if wrong := [name for name in named if name not in GROUPS]:
        raise InvalidInput(f"no group of benchmarks {wrong[0]!r}; choose of: {', '.join(GROUPS)}")
    return [name for name in GROUPS if not named or name in named]


def repeated(run: Run, names: Sequence[str], repeat: int) -> Figures:
    """Medians over so many whole runs, with the least and the most of each figure."""
    if not 1 <= repeat <= MAX_REPEAT:
        raise InvalidInput(f"repeat = {repeat}; take 1 to {MAX_REPEAT}")
    runs = [run(names).figures for _ in range(repeat)]
    return Figures(figures=merged(runs), commit=commit(), hardware=hardware(), command=command(), repeats=repeat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A group's figures as they are kept in a file.

    transcribed  taken from an earlier text, where the run's own file is not left
    """

    name: str
    figures: Sequence[Figure]
    command: str
    commit: str
    hardware: str
    date: str
    repeats: int
    transcribed: bool

    def as_json(self) -> dict[str, Any]:
        return {
            MARK: FORMAT,
            "name": self.name,
            "command": self.command,
            "commit": self.commit,
            "hardware": self.hardware,
            "date": self.date,
            "repeats": self.repeats,
            "transcribed": self.transcribed,
            "figures": [figure.as_json() for figure in self.figures],
        }


def published(name: str, figures: Figures) -> Published:
    """What was measured now, to be kept."""
    return Published(
        name=name,
        figures=figures.figures,
        command=figures.command,
        commit=figures.commit or "unknown",
        hardware=figures.hardware,
        date=datetime.now(UTC).date().isoformat(),
        repeats=figures.repeats,
        transcribed=False,
    )


def write_json(file: Path, said: Mapping[str, Any]) -> None:
    write_atomic(file, (json.dumps(said, ensure_ascii=False, indent=1) + "\n").encode())


def read_published(file: Path) -> Published:
    """Raises InvalidInput for what is no such file, or one that was changed by hand so that it contradicts itself."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if said[MARK] != FORMAT:
            raise InvalidInput(f"{file} is of form {said[MARK]}, read is {FORMAT}; measure again")
        found = Published(
            name=str(said["name"]),
            figures=[figure_from(figure) for figure in said["figures"]],
            command=str(said["command"]),
            commit=str(said["commit"]),
            hardware=str(said["hardware"]),
            date=str(said["date"]),
            repeats=int(said["repeats"]),
            transcribed=bool(said["transcribed"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{file} holds no figures of kvasir-eval bench ({error!r})") from error
    if found.as_json() != said:
        raise InvalidInput(f"{file}: what follows from a figure is not what stands there; measure again")
    return found
