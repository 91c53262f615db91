"""What was measured of a model's cache modes, kept in the home directory; another model has no verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from indexes.durable import write_atomic

FOLDER = "verdicts"
STORED = "stored"
"""In place of a mode: every passage as the full prefill has it, stored and restored. What a scheme alone changes."""


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One mode over states of one scheme, beside the full prefill of the same prompts.

    fingerprint  of the model without any tenant (``ChunkLibrary.identity``);  dtype  of its numbers
    date         when it was measured, ISO 8601 in UTC;  collection, questions, positions  on what
    kl           mean KL(full || mode) of the next token, in nats, over the positions of the full prefill's answers
    agreement    share of these positions with the same most likely token
    nll          by how much less likely the mode makes these answers, nats a token; negative for likelier
    tau, overlap Kendall's tau with full ICR's ranking, and the share of its ten best that are among the ten best
    """

    fingerprint: str
    scheme: str
    mode: str
    model: str
    dtype: str
    date: str
    collection: str
    questions: int
    positions: int
    kl: float
    agreement: float
    nll: float
    tau: float
    overlap: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a mode must keep to be chosen: at most ``kl`` and ``nll``, at least the others. All are included."""

    kl: float
    agreement: float
    nll: float
    tau: float
    overlap: float

    def broken(self, verdict: Verdict) -> tuple[str, ...]:
        """The bounds that the verdict does not keep, in words; none where it passes. NaN keeps no bound."""
        most = [(name, getattr(verdict, name), getattr(self, name)) for name in ("kl", "nll")]
        least = [(name, getattr(verdict, name), getattr(self, name)) for name in ("agreement", "tau", "overlap")]
        return (
            *(f"{name} {found:.3g} > {bound:g}" for name, found, bound in most if not found <= bound),
            *(f"{name} {found:.3g} < {bound:g}" for name, found, bound in least if not found >= bound),
        )


class Verdicts:
    """A file each, whole or not there after a crash at any moment; what cannot be read is no verdict."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER

    def put(self, verdict: Verdict) -> None:
        """Keep it in place of an older one of the same model, scheme and mode. Raises StorageFull, OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._file(verdict.fingerprint, verdict.scheme, verdict.mode), msgspec.json.encode(verdict))

    def get(self, fingerprint: str, scheme: str, mode: str) -> Verdict | None:
        return self._read(self._file(fingerprint, scheme, mode), fingerprint, scheme)

    def all_of(self, fingerprint: str, scheme: str) -> list[Verdict]:
        """Of every mode that was measured, by its name."""
        files = sorted(self.folder.glob(f"{fingerprint}-{scheme}-*.json"))
        return [found for file in files if (found := self._read(file, fingerprint, scheme)) is not None]

    def _file(self, fingerprint: str, scheme: str, mode: str) -> Path:
        return self.folder / f"{fingerprint}-{scheme}-{mode}.json"

    def _read(self, file: Path, fingerprint: str, scheme: str) -> Verdict | None:
        try:
            found = msgspec.json.decode(file.read_bytes(), type=Verdict)
        except (OSError, msgspec.MsgspecError):
            return None
        named = f"{found.fingerprint}-{found.scheme}-{found.mode}.json"
        return found if named == file.name and (found.fingerprint, found.scheme) == (fingerprint, scheme) else None
