"""Checks that cached chunk states are put together as they must be, on a model, device and dtype at hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rag.kv.behind import logits_behind
from rag.kv.capture import read_chunks
from rag.kv.compose import Composed, compose
from rag.kv.modes import Mode, parse_mode
from rag.kv.plan import Chunk, Ids
from rag.kv.recompute import Watch
from rag.kv.reference import Reference, apart
from rag.kv.states import ChunkStates
from rag.runtime.meter import Meter

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel

FLOOR = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 2e-2}
ROUNDING = 3.0
COARSEST = 0.3
"""The tolerance is ROUNDING times what two attention functions of transformers differ by, within these bounds.

All differences are of rows of logits, states or attention: the largest as a share of the root mean square row. Faults
make 0.2 and more of it; where rounding alone does, nothing can be told in that dtype.
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One claim: ``found`` may be ``tolerance`` at most."""

    name: str
    tolerance: float
    found: float

    @property
    def passed(self) -> bool:
        return self.found <= self.tolerance  # never of a NaN


@dataclass(frozen=True, slots=True)
class CacheReport:
    model: str
    dtype: str
    device: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)


def verify(
    model: LanguageModel, *, prompts: int = 20, seed: int = 0, seen: Callable[[Check], None] | None = None
) -> CacheReport:
    """Run every check; ``prompts`` is how many the divergence of blend is averaged over.

    Raises ModelNotAvailable for a model whose states cannot be moved.
    """
    from rag.kv.claims import CLAIMS, divergence_falls

    bench = Bench(model, random.Random(seed), seen or (lambda _: None))  # noqa: S311 - made-up prompts
    bench.measure()
    for claim in CLAIMS:
        claim(bench)
    divergence_falls(bench, prompts)
    return CacheReport(model.name, bench.dtype, str(model.model.device), tuple(bench.checks))


@dataclass(slots=True, eq=False)
class Bench:
    """A prompt of random tokens, what is cached of it, and the model in two ways: Kvasir's and transformers'.

    head, rows, suffix  token ids of the prefix, the chunks and the question
    prefix, alone, behind  states of the prefix, and of the chunks read by themselves and behind it
    """

    model: LanguageModel
    rng: random.Random
    seen: Callable[[Check], None]
    checks: list[Check] = field(default_factory=list)
    tolerance: float = 0.0
    reference: Reference = field(init=False)
    head: Ids = field(init=False)
    rows: list[Ids] = field(init=False)
    suffix: Ids = field(init=False)
    prefix: ChunkStates = field(init=False)
    alone: list[ChunkStates] = field(init=False)
    behind: list[ChunkStates] = field(init=False)

    def __post_init__(self) -> None:
        self.head, self.suffix = self.ids(7), self.ids(6)
        self.rows = [self.ids(23), self.ids(9), self.ids(31)]
        self.prefix = self.read([self.head])[0]
        self.reference = Reference(self.model)
        self.alone, self.behind = self.read(self.rows), self.read(self.rows, self.prefix)

    @property
    def dtype(self) -> str:
        return str(self.model.model.dtype).removeprefix("torch.")

    @property
    def prompt(self) -> list[int]:
        """Prefix and chunks."""
        return [*self.head, *(token for row in self.rows for token in row)]

    def measure(self) -> None:
        """Set the tolerance by how much rounding is seen in forwards of the whole prompt."""
        import torch

        ids = [*self.prompt, *self.suffix]
        composed = compose(self.model, (), [], Mode(kind="full"), Meter(), room=len(ids))
        found = torch.from_numpy(logits_behind(self.model, composed, ids, Meter()))
        wanted = self.reference.logits(ids)
        noise = difference(self.reference.logits(ids, attention="sdpa"), wanted)
        self.tolerance = min(max(FLOOR[self.dtype], ROUNDING * noise), COARSEST)
        self.agree("a plain forward = transformers'", found, wanted.cpu())

    def ids(self, count: int) -> Ids:
        return tuple(self.rng.randrange(self.model.model.config.vocab_size) for _ in range(count))

    def read(self, rows: Sequence[Ids], prefix: ChunkStates | None = None) -> list[ChunkStates]:
        return read_chunks(self.model, rows, Meter(), prefix=prefix, on="model")

    def compose(
        self, prefix: ChunkStates | Ids, chunks: Sequence[Chunk], mode: str | Mode, *, watch: Watch | None = None
    ) -> Composed:
        chosen = parse_mode(mode) if isinstance(mode, str) else mode
        return compose(self.model, prefix, chunks, chosen, Meter(), room=len(self.suffix), watch=watch)

    def logits(self, prefix: ChunkStates | Ids, chunks: Sequence[Chunk], mode: str | Mode) -> torch.Tensor:
        """Of the suffix behind them."""
        import torch

        composed = self.compose(prefix, chunks, mode)
        return torch.from_numpy(logits_behind(self.model, composed, self.suffix, Meter())).to(self.model.model.device)

    def full(self, *rows: Ids) -> torch.Tensor:
        """The reference's logits of the suffix behind rows of tokens."""
        ids = [token for row in rows for token in row]
        return self.reference.logits([*ids, *self.suffix])[len(ids) :]

    def diagonal(self, rows: Sequence[Ids]) -> torch.Tensor:
        """The same where prefix and rows see nothing but themselves."""
        ids = [*self.head, *(token for row in rows for token in row)]
        mask = apart(len(self.head), [len(row) for row in rows], len(self.suffix), see_prefix=False)
        return self.reference.logits([*ids, *self.suffix], mask=mask)[len(ids) :]

    def agree(self, name: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
        self.note(name, self.tolerance, difference(found, wanted))

    def note(self, name: str, tolerance: float, found: float) -> None:
        self.checks.append(Check(name, tolerance, found))
        self.seen(self.checks[-1])


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference of a row, over the last dimension, as a share of the root mean square row."""
    differences, rows = (found.float() - wanted.float()).norm(dim=-1), wanted.float().norm(dim=-1)
    return float(differences.max() / rows.square().mean().sqrt())
