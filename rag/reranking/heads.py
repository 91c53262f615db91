"""Head sets: which attention heads of a model count in attention reranking."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rag.errors import InvalidConfig
from rag.runtime.reader import Heads, Reader

ALL, AUTO = "all", "auto"
OWN = "heads.toml"
"""The head set in a model's own directory, which AUTO takes."""


@dataclass(frozen=True, slots=True)
class HeadSet:
    """Heads as (layer, head), both from 0, best first.

    model        the model they were found for;  source  where they are from
    fingerprint  of that model's files, "" for published sets, whose files are not at hand
    """

    name: str
    heads: tuple[tuple[int, int], ...]
    model: str = ""
    source: str = ""
    fingerprint: str = ""

    def by_layer(self) -> Heads:
        layers = sorted({layer for layer, _ in self.heads})
        return {layer: tuple(sorted(head for at, head in self.heads if at == layer)) for layer in layers}


def heads_for(reader: Reader, wanted: str) -> Heads | None:
    """The heads of a set by name or file for this model, None for "all". Raises InvalidConfig.

    "auto" is the set in the model's own directory where it has one, else all.
    """
    wanted = _found(reader, wanted)
    if wanted == ALL:
        return None
    chosen = head_set(wanted)
    layers, width = reader.shape
    outside = [f"{i}-{h}" for i, h in chosen.heads if not (0 <= i < layers and 0 <= h < width)]
    if outside:
        raise InvalidConfig(
            f"head set {wanted!r} (of {chosen.model or 'another model'}) has heads {', '.join(outside[:3])}; "
            f"{reader.name!r} has {layers} layers of {width} heads: take a set found for it, or {ALL!r}"
        )
    if chosen.fingerprint and chosen.fingerprint != reader.fingerprint:
        raise InvalidConfig(
            f"head set {wanted!r} was found for {chosen.fingerprint}, not for {reader.fingerprint}; "
            "find one with: kvasir models heads"
        )
    return chosen.by_layer()


def foreign(reader: Reader, wanted: str) -> str:
    """The model that a set without a fingerprint was found for, "" where its name is this one's or nobody's."""
    wanted = _found(reader, wanted)
    chosen = HeadSet(ALL, ()) if wanted == ALL else head_set(wanted)
    same = Path(chosen.model).name.lower() == Path(reader.name).name.lower()
    return "" if chosen.fingerprint or same else chosen.model


def _found(reader: Reader, wanted: str) -> str:
    if wanted != AUTO:
        return wanted
    own = Path(reader.folder, OWN)
    return str(own) if reader.folder and own.is_file() else ALL


def head_set(wanted: str) -> HeadSet:
    """A published set by name, or one from a file that ``write`` made. Raises InvalidConfig."""
    if wanted in published():
        return published()[wanted]
    path = Path(wanted).expanduser()
    if not path.is_file():
        known = ", ".join([AUTO, ALL, *published()])
        raise InvalidConfig(f"heads = {wanted!r} is neither a head set nor a file; known: {known}")
    try:
        return _set(path.stem, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidConfig(f"{path} is no head set ({error}); write one with: kvasir models heads") from error


@cache
def published() -> Mapping[str, HeadSet]:
    raw = files("rag.reranking").joinpath("head_data", "published.toml").read_text(encoding="utf-8")
    return {name: _set(name, table) for name, table in tomllib.loads(raw).items()}


def write(path: Path, chosen: HeadSet) -> None:
    """As TOML, the form ``head_set`` reads."""
    listed = " ".join(f"{layer}-{head}" for layer, head in chosen.heads)
    values = {"model": chosen.model, "source": chosen.source, "fingerprint": chosen.fingerprint, "heads": listed}
    path.write_text("".join(f"{key} = {_quoted(value)}\n" for key, value in values.items()), encoding="utf-8")


def _set(name: str, table: Mapping[str, Any]) -> HeadSet:
    found = re.findall(r"(\d+)-(\d+)", table["heads"])
    if not found:
        raise ValueError('heads = "layer-head layer-head ..." names none')
    heads = tuple(dict.fromkeys((int(layer), int(head)) for layer, head in found))
    return HeadSet(name, heads, table.get("model", ""), table.get("source", ""), table.get("fingerprint", ""))


def _quoted(value: str) -> str:
    return '"' + re.sub(r'[\x00-\x1f\x7f"\\]', lambda m: f"\\u{ord(m[0]):04x}", value) + '"'
