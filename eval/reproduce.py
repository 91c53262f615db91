"""Runs the commands behind published figures and says whether they came out."""

from __future__ import annotations

import io
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from typer import Abort

from eval.reproductions import Reproduction
from rag.errors import KvasirError

DATA = "KVASIR_TEST_DATA"
WHY = 300
"""Characters of an unforeseen error that are told."""
LIVING = ("beir", "rerank")
"""Commands with a home directory and settings of their own."""


class Verdict(StrEnum):
    """How it came out: within the tolerance, outside of it, an error, or not run."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One reproduction and what came of it; ``got`` is empty and ``why`` tells the reason where it gave no figures."""

    reproduction: Reproduction
    verdict: Verdict
    got: Mapping[str, float] = field(default_factory=dict)
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        one = self.reproduction
        return {
            "name": one.name,
            "source": one.source,
            "commands": list(one.commands),
            "tolerance": one.tolerance,
            "expected": dict(one.expected),
            "got": dict(self.got),
            "verdict": str(self.verdict),
            "why": self.why,
            "note": one.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where data and models are looked for, and where collections live.

    data    folders that hold sets by name;  models  a folder that holds models by the last part of their hub name
    """

    data: Sequence[Path]
    models: Path | None
    home: Path

    def set_of(self, one: Reproduction) -> Path | None:
        return next((root / one.data for root in self.data if (root / one.data).is_dir()), None)

    def model_of(self, one: Reproduction) -> str | None:
        """What a command is to call the model: its folder, or its hub name where it is in the local hub cache."""
        if not one.model:
            return ""
        folder = self.models / one.model.rsplit("/", 1)[1] if self.models is not None else None
        if folder is not None and folder.is_dir():
            return str(folder)
        from huggingface_hub import try_to_load_from_cache

        return one.model if isinstance(try_to_load_from_cache(one.model, "config.json"), str) else None


def places(data: Path | None, models: Path | None, home: Path) -> Places:
    """``data``, else KVASIR_TEST_DATA, else shared/data beside the checkout; and the sets fetched into the home.

    A ``~`` in any of them is the user's own folder.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    named = data or (Path(os.environ[DATA]) if os.environ.get(DATA) else beside)
    home = home.expanduser()
    found = None if models is None else models.expanduser()
    return Places(data=[named.expanduser(), home / "datasets"], models=found, home=home)


Run = Callable[[list[str]], Mapping[str, Any]]
"""Runs the words of a command behind ``kvasir-eval`` and gives the JSON that it prints."""


def reproduce(reproductions: Sequence[Reproduction], where: Places, run: Run) -> Iterator[Outcome]:
    """Each outcome as soon as it is known; an error of one, of whatever kind, stops no other."""
    for one in reproductions:
        try:
            yield _outcome(one, where, run)
        except Abort:  # the user's wish to stop
            raise
        except KvasirError as error:
            yield Outcome(reproduction=one, verdict=Verdict.FAILED, why=str(error))
        except Exception as error:  # noqa: BLE001 - the other figures are worth having
            why = f"{type(error).__name__}: {error}"
            yield Outcome(reproduction=one, verdict=Verdict.FAILED, why=" ".join(why.split())[:WHY])


def _outcome(one: Reproduction, where: Places, run: Run) -> Outcome:
    skipped = Verdict.SKIPPED
    if one.cannot:
        return Outcome(reproduction=one, verdict=skipped, why=one.cannot)
    data, model = where.set_of(one), where.model_of(one)
    if data is None:
        return Outcome(reproduction=one, verdict=skipped, why=f"no folder {one.data!r}; name its parent with --data")
    if model is None:
        return Outcome(reproduction=one, verdict=skipped, why=f"no model {one.model}; name a folder with --models")
    with tempfile.TemporaryDirectory(prefix="kvasir-reproduce-") as work:
        said = [run(words) for words in _commands(one, data, model, Path(work), where.home)][-1]
    got = figures(said, one)
    return Outcome(reproduction=one, verdict=judged(one, got), got=got)


def _commands(one: Reproduction, data: Path, model: str, work: Path, home: Path) -> Iterator[list[str]]:
    """The words of each command, its placeholders filled after it was taken apart: a path may hold blanks."""
    values = {"${data}": str(data), "${model}": model, "${work}": str(work), "${metrics}": " ".join(one.expected)}
    settings = work / "kvasir.toml"
    settings.write_text(_filled(one.settings, values), encoding="utf-8")
    for command in one.commands:
        words = [_filled(word, values) for word in shlex.split(command)[1:]]
        yield [*words, *(["--home", str(home), "--config", str(settings)] if words[0] in LIVING else []), "--json"]


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def figures(said: Mapping[str, Any], one: Reproduction) -> dict[str, float]:
    """The measures of a command's JSON; a reranking's are those of the new order."""
    metrics = said["metrics"]
    values = metrics.get("reranked", metrics)
    return {measure: float(values[measure]) for measure in one.expected}


def judged(one: Reproduction, got: Mapping[str, float]) -> Verdict:
    """``reproduced`` where every measure lies within the tolerance, counted to the fourth place as it is published."""
    near = all(round(abs(got[name] - value), 4) <= one.tolerance for name, value in one.expected.items())
    return Verdict.REPRODUCED if near else Verdict.DIFFERS


def run_command(words: list[str]) -> Mapping[str, Any]:
    """Runs a command of kvasir-eval in this process and gives the JSON that it prints."""
    from eval.cli import app

    out = io.StringIO()
    with redirect_stdout(out):
        app(words, standalone_mode=False)
    said: Mapping[str, Any] = json.loads(out.getvalue())
    return said
