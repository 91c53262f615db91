"""Which mode may be used: the cheapest that was measured on this model and kept the bounds, else one without loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.errors import InvalidConfig
from rag.kv.modes import Kind, Mode, parse_mode
from rag.kv.verdicts import STORED, Bounds, Verdict, Verdicts

if TYPE_CHECKING:
    from rag.kv.library import ChunkLibrary

AUTO = "auto"
MEASURE = "measure it with: kvasir models calibrate MODEL --collection NAME"
_TYPICAL = 256
"""Tokens of a passage, for the share that link computes again."""
_ORDER: tuple[Kind, ...] = ("independent", "ape", "link", "blend", "craft", "prefix", "full")


@dataclass(frozen=True, slots=True)
class Choice:
    """A mode, and what a reader of the trace should know about it; "" for nothing."""

    mode: Mode
    note: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdicts of a home directory, and what a mode must keep."""

    verdicts: Verdicts
    bounds: Bounds

    def choose(self, library: ChunkLibrary) -> Choice:
        """The mode of least ``cost`` whose verdict passes, of this model and scheme; without one prefix, or full.

        Prefix only where storage loses nothing of the states, or little enough.
        """
        identity, scheme = library.identity, library.scheme
        passed = [one for one in self.verdicts.all_of(identity, scheme) if not self.bounds.broken(one)]
        modes = [mode for one in passed if (mode := _mode_of(one)) is not None]
        if modes:
            best = min(modes, key=lambda mode: (*cost(mode), str(mode)))
            return Choice(best, _variants(library, best))
        why = f"no cache mode has passed on this model with {scheme} states; {MEASURE}"
        kind: Kind = "full" if library.rounds and not self.passes(library, STORED) else "prefix"
        return Choice(Mode(kind=kind), why)

    def named(self, library: ChunkLibrary, mode: Mode) -> Choice:
        """A mode that somebody asked for, with a note where its verdict failed or is not there."""
        if mode.kind == "full" or (mode.kind == "prefix" and not library.rounds):
            return Choice(mode)
        row = STORED if mode.exact else str(mode)
        verdict = self.verdicts.get(library.identity, library.scheme, row)
        what = f"cache mode {mode} with {library.scheme} states"
        if verdict is None:
            return Choice(mode, f"{what} was not measured on this model; {MEASURE}")
        broken = self.bounds.broken(verdict)
        failed = f"{what} failed on this model: {', '.join(broken)}" if broken else ""
        return Choice(mode, "; ".join(filter(None, (failed, _variants(library, mode)))))

    def passes(self, library: ChunkLibrary, row: str) -> bool:
        """True where a mode, or STORED, was measured on this model with this scheme and kept the bounds."""
        verdict = self.verdicts.get(library.identity, library.scheme, row)
        return verdict is not None and not self.bounds.broken(verdict)


def _variants(library: ChunkLibrary, mode: Mode) -> str:
    """What the verdict of a mode does not say."""
    if mode.kind != "craft" or not library.variants:
        return ""
    return f"{mode} was measured without variants, of which up to {library.variants} a passage are used"


def cost(mode: Mode) -> tuple[float, int]:
    """What a mode computes again, as a share of the tokens, and its place among modes of one share.

    independent and ape nothing (ape's attention is the slower), link k of 256, blend its share and two whole layers
    (counted as 0.05), craft half of alpha, which is the least for passages that were read by themselves, prefix all.
    """
    match mode.kind:
        case "independent" | "ape":
            share = 0.0
        case "link":
            share = min(1.0, mode.k / _TYPICAL)
        case "blend":
            share = min(1.0, mode.share + 0.05)
        case "craft":
            share = min(1.0, 0.5 * mode.alpha)
        case _:
            share = 1.0
    return share, _ORDER.index(mode.kind)


def _mode_of(verdict: Verdict) -> Mode | None:
    """The mode; None for STORED, and for one that this version does not know."""
    try:
        return parse_mode(verdict.mode)
    except InvalidConfig:
        return None
