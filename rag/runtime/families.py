"""Model families: which architectures are known to work, and how each wants its prompts written.

A family is a TOML file in ``family_data``; the first whose control strings the tokenizer has is taken.
"""

from __future__ import annotations

import tomllib
from collections.abc import Container
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rag.errors import ModelNotAvailable

_ORDER = ("embedded", "llama-3", "qwen3-thinking", "qwen", "mistral", "plain")


@dataclass(frozen=True, slots=True)
class AttentionTemplate:
    """Strings of an attention reranking prompt, as the published code has them for the family."""

    prefix: str
    suffix: str
    separator: str


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """What stands before the user's turn, and between it and the model's answer."""

    user: str
    assistant: str


@dataclass(frozen=True, slots=True)
class Family:
    """A model family.

    requires   control strings its tokenizers have;  mentions  what the model's own chat template contains
    reserved   strings of its templates that some of its tokenizers take for ordinary text
    end        control strings behind which an answer is over; a tokenizer need not have them all
    """

    name: str
    model_types: tuple[str, ...]
    requires: tuple[str, ...]
    mentions: str
    reserved: tuple[str, ...]
    end: tuple[str, ...]
    attention: AttentionTemplate
    chat: ChatTemplate


@cache
def families() -> tuple[Family, ...]:
    """All families in the order in which they are tried."""
    return tuple(_read(name) for name in _ORDER)


def family_of(model_type: str, controls: Container[str], chat_template: str = "") -> Family:
    """The family of a model by its architecture, control strings and chat template. Raises ModelNotAvailable."""
    for family in families():
        if (
            model_type in family.model_types
            and all(control in controls for control in family.requires)
            and family.mentions in chat_template
        ):
            return family
    known = ", ".join(sorted({kind for family in families() for kind in family.model_types}))
    raise ModelNotAvailable(
        f"model type {model_type!r} has not been checked with Kvasir's attention readout; known: {known}"
    )


def _read(name: str) -> Family:
    raw = tomllib.loads(files("rag.runtime").joinpath("family_data", f"{name}.toml").read_text(encoding="utf-8"))
    return Family(
        name=name,
        model_types=tuple(raw["model_types"]),
        requires=tuple(raw.get("requires", ())),
        mentions=raw.get("mentions", ""),
        reserved=tuple(raw.get("reserved", ())),
        end=tuple(raw["end"]),
        attention=AttentionTemplate(**raw["attention"]),
        chat=ChatTemplate(**raw["chat"]),
    )
