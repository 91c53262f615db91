"""Options that several commands have, and the engine they are answered with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rag.assemble import Engine

Home = Annotated[Path | None, typer.Option("--home", help="Where collections live [env KVASIR_HOME, ~/.kvasir].")]
Config = Annotated[Path | None, typer.Option("--config", help="A settings file [env KVASIR_CONFIG].")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
PipelineName = Annotated[str | None, typer.Option("--pipeline", "-p", help="A pipeline's name.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Override a pipeline key: --set depth=200.")]
FilterText = Annotated[str | None, typer.Option("--filter", help='A metadata filter as JSON: {"year": {"gte": 2000}}.')]
ModelName = Annotated[
    str, typer.Option("--model", help="A language model by path or hub name, or lexical [env KVASIR_MODEL__NAME].")
]


def engine_of(home: Path | None, config: Path | None, model: str = "") -> Engine:
    """The engine by the settings, with another language model where one is named."""
    from rag.assemble import Engine
    from rag.config import load_settings

    settings = load_settings(config, home=home)
    if model:
        settings = replace(settings, model=replace(settings.model, name=model))
    return Engine(settings)


def counted(count: int, noun: str) -> str:
    """``1 document``, ``2 documents``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
