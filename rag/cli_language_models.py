"""``kvasir models info`` and ``use``: what a language model is, and the one that is asked."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag.cli_options import Config, Home, Json

if TYPE_CHECKING:
    from rag.model_facts import ModelFacts

Model = Annotated[str, typer.Argument(help="embedded, a directory, or a hub name [the configured one].")]


def info(model: Model = "", home: Home = None, config: Config = None, as_json: Json = False) -> None:
    """What the files of a language model say: sizes, context, head set, fingerprint. Nothing is loaded."""
    from rag.config import load_settings
    from rag.model_facts import model_facts

    found = model_facts(model or load_settings(config, home=home).model.name)
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False))
        return
    for name, value in _lines(found):
        typer.echo(f"{name:<12} {value}")


def _lines(found: ModelFacts) -> list[tuple[str, str]]:
    heads = " ".join(f"{layer}-{head}" for layer, head in found.head_set)
    lines = [
        ("model", found.name),
        ("folder", found.folder),
        ("family", f"{found.family} ({found.architecture})"),
        ("parameters", f"{found.parameters:,}, {found.weight_bytes / 2**20:.1f} MiB as {found.dtype}"),
        ("layers", f"{found.layers} of width {found.width}, {found.heads} heads, {found.key_heads} with keys"),
        ("vocabulary", f"{found.vocabulary:,}"),
        ("context", f"{found.context:,} tokens, {found.state_bytes:,} bytes of states each"),
        ("head set", heads or "none of its own: icr takes all heads, or a set that kvasir models heads finds"),
        ("fingerprint", found.fingerprint),
    ]
    return lines + ([("card", found.card)] if found.card else [])


def use(
    model: Annotated[str, typer.Argument(help="embedded, lexical, a directory, or a hub name.")],
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write the language model into the settings file; everything else in it stays as it is."""
    from rag.tables import LEXICAL

    name = str(Path(model).expanduser().resolve()) if Path(model).expanduser().is_dir() else model
    if name != LEXICAL:
        from rag.model_facts import model_facts

        model_facts(name)  # what is no model is refused before anything is written
    file = _settings_file(home, config)
    _write(file, name)
    told = {"model": name, "settings": str(file)}
    if "KVASIR_MODEL__NAME" in os.environ:
        told["note"] = f"KVASIR_MODEL__NAME={os.environ['KVASIR_MODEL__NAME']} still comes first"
    typer.echo(json.dumps(told) if as_json else "\n".join(f"{key}: {value}" for key, value in told.items()))


def _settings_file(home: Path | None, config: Path | None) -> Path:
    """The file that ``load_settings`` reads, or would read if it were there."""
    from rag.config import load_settings

    named = config or (Path(os.environ["KVASIR_CONFIG"]) if os.environ.get("KVASIR_CONFIG") else None)
    return named.expanduser() if named else Path(load_settings(None, home=home).home).expanduser() / "kvasir.toml"


def _write(file: Path, name: str) -> None:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    from indexes.durable import write_atomic
    from rag.errors import InvalidConfig

    try:
        document: Any = tomlkit.parse(file.read_text(encoding="utf-8")) if file.is_file() else tomlkit.document()
        document.setdefault("model", tomlkit.table())["name"] = name
    except (TOMLKitError, UnicodeDecodeError, TypeError) as error:
        raise InvalidConfig(f"{file} is not TOML with a [model] table ({error}); repair it first") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, tomlkit.dumps(document).encode())
