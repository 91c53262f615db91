"""How much of cached chunks is computed again when they are put together: one axis, exact at its ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rag.errors import InvalidConfig

Kind = Literal["full", "prefix", "independent", "ape", "link", "blend", "craft"]
CHECK_LAYER = 1
"""Where blend compares fresh states with cached ones; the layers up to it are computed in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A way of composition. What its kind does not use stays at its default.

    full         everything is computed again
    prefix       what stands where it was read, behind what it was read behind, is reused; the rest is computed
    independent  every chunk as it was read by itself, moved to its place
    ape          every chunk at the same positions; attention corrected by ``temperature`` and ``scale`` (2502.05431)
    link         the first ``k`` tokens of each chunk are computed again (EPIC, 2410.15332)
    blend        the ``share`` of tokens that deviate most in layer 1 (CacheBlend, 2405.16444), of keys and values, or
                 of values alone with ``values_only``, as its released code has it
    craft        the tokens that attended most to other chunks, as many as a chunk's old and new context ask for, times
                 ``alpha`` (Cache-Craft, 2502.15734)
    Raises InvalidConfig for a number out of its range.
    """

    kind: Kind
    k: int = 16
    share: float = 0.15
    values_only: bool = False
    alpha: float = 1.0
    temperature: float = 0.9
    scale: float = 0.9

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("k", self.k, 0, 1_000_000),
            ("share", self.share, 0.0, 1.0),
            ("alpha", self.alpha, 0.0, 2.0),
            ("temperature", self.temperature, 0.05, 10.0),
            ("scale", self.scale, 0.0, 10.0),
        ):
            if not low <= value <= high:
                raise InvalidConfig(f"{name} = {value} of cache mode {self.kind!r}: take {low} to {high}")

    @property
    def exact(self) -> bool:
        """True where the result is the full prefill's, whatever the chunks are."""
        return self.kind in ("full", "prefix")

    @property
    def parallel(self) -> bool:
        """True where chunks share positions."""
        return self.kind == "ape"

    def __str__(self) -> str:
        """The text that ``parse_mode`` reads."""
        match self.kind:
            case "ape":
                return f"ape-{self.temperature:g}-{self.scale:g}"
            case "link":
                return f"link-{self.k}"
            case "blend":
                return f"blend-{self.share:g}{'-values' if self.values_only else ''}"
            case "craft":
                return f"craft-{self.alpha:g}"
        return self.kind


_NUMBER = r"(\d+(?:\.\d+)?)"
_FORMS: tuple[tuple[str, Callable[[re.Match[str]], Mode]], ...] = (
    ("full", lambda _: Mode(kind="full")),
    ("prefix", lambda _: Mode(kind="prefix")),
    ("independent", lambda _: Mode(kind="independent")),
    ("ape", lambda _: Mode(kind="ape")),
    (f"ape-{_NUMBER}-{_NUMBER}", lambda m: Mode(kind="ape", temperature=float(m[1]), scale=float(m[2]))),
    ("link", lambda _: Mode(kind="link")),
    (r"link-(\d+)", lambda m: Mode(kind="link", k=int(m[1]))),
    ("blend(-values)?", lambda m: Mode(kind="blend", values_only=bool(m[1]))),
    (f"blend-{_NUMBER}(-values)?", lambda m: Mode(kind="blend", share=float(m[1]), values_only=bool(m[2]))),
    ("craft", lambda _: Mode(kind="craft")),
    (f"craft-{_NUMBER}", lambda m: Mode(kind="craft", alpha=float(m[1]))),
)


def parse_mode(text: str) -> Mode:
    """The mode that a text names.

    full, prefix, independent, ape[-T-S], link[-k], blend[-share][-values], craft[-alpha]. Raises InvalidConfig.
    """
    for form, make in _FORMS:
        if match := re.fullmatch(form, text.strip().lower()):
            return make(match)
    raise InvalidConfig(
        f"no cache mode {text!r}; take full, prefix, independent, ape, ape-T-S, link-K, blend-SHARE, "
        "blend-SHARE-values or craft-ALPHA, as link-16 or blend-0.15"
    )
