"""Many short prompts at once: prompts of all waiting threads share batches, and share what they begin with.

A thread puts its rows down and waits for its turn; whoever has it runs one batch of the oldest rows that lie there, its
own or another's. So batches form by themselves under load, and nobody waits when there is none. A row is padded and
masked: what it gives depends on the rows beside it by rounding only (log-probabilities differ by about 3e-6 in
float32, by about 0.03 in bfloat16).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rag.errors import InvalidInput, ModelOutOfMemory, Overloaded
from rag.runtime.keyvalues import KeyValues
from rag.runtime.meter import Cancelled, Meter
from rag.runtime.prompt import Prompt, joined
from rag.runtime.reader import Array
from rag.runtime.turns import Turns

if TYPE_CHECKING:
    import torch

BATCH_TOKENS = 2048
"""Padded tokens that one pass computes."""
BATCH_STATES = 8192
"""Padded tokens of one pass with those whose states are known: what its key/value states take."""
KEPT_TOKENS = 24_576
"""Tokens of shared beginnings whose states are kept; the least recently used go first."""
MAX_WAITING = 20_000
"""Rows that may wait for the model."""

Ids = tuple[int, ...]


class Passes(Protocol):
    """What rows need of a model."""

    @property
    def context(self) -> int: ...
    def memory(self, batch: int, capacity: int) -> KeyValues: ...
    def forward(
        self, ids: torch.Tensor, states: KeyValues, mask: torch.Tensor | None, *, positions: torch.Tensor
    ) -> torch.Tensor | None: ...
    def scores(self, hidden: torch.Tensor, labels: Sequence[int] | None) -> torch.Tensor: ...


@dataclass(slots=True, eq=False)
class _Row:
    """One prompt. ``finish`` makes its result of the normed hidden states of its tail."""

    prompt: Prompt
    finish: Callable[[torch.Tensor], float | list[float]]
    meter: Meter
    result: float | list[float] | None = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.result is not None or self.error is not None


@dataclass(slots=True)
class _Part:
    """New tokens behind known states: a row's tail, or the next piece of a shared beginning."""

    before: KeyValues | None
    ids: Ids

    @property
    def past(self) -> int:
        return self.before.length if self.before else 0


@dataclass(slots=True)
class Rows:
    """The queue, the batches and the kept beginnings of one model. ``turns`` are the model's."""

    model: Passes
    turns: Turns
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _waiting: list[_Row] = field(default_factory=list)
    _kept: OrderedDict[Ids, KeyValues] = field(default_factory=OrderedDict)

    @property
    def waiting(self) -> int:
        """Prompts that wait for a batch."""
        return len(self._waiting)

    @property
    def kept(self) -> int:
        """Tokens of the beginnings whose states are kept."""
        return sum(map(len, list(self._kept)))

    def forget(self) -> None:
        """Give up all states that are kept. For whoever has the turn."""
        self._kept.clear()

    def labels(self, prompts: Sequence[Prompt], labels: Sequence[int], meter: Meter) -> Array:
        """(prompts, labels) log-probabilities among the labels. Raises OutOfBudget, Cancelled, Overloaded."""

        def finish(hidden: torch.Tensor) -> list[float]:
            scores = self.model.scores(hidden[-1:], labels)[0]
            return [float(score) for score in scores.log_softmax(-1)]

        rows = [_Row(prompt, finish, meter) for prompt in prompts]
        return np.array(self._run(rows), dtype=np.float32).reshape(len(prompts), len(labels))

    def likelihood(self, prompts: Sequence[Prompt], meter: Meter) -> Array:
        """(prompts,) mean log-probability of the last segment's tokens. It must not be empty."""

        def finishing(prompt: Prompt) -> Callable[[torch.Tensor], float]:
            target = prompt.segments[-1].ids
            if not target or len(prompt.tail) <= len(target):
                raise InvalidInput("a likelihood needs a last segment with tokens, and an unshared one before it")

            def finish(hidden: torch.Tensor) -> float:
                import torch

                scores = self.model.scores(hidden[-len(target) - 1 : -1], None).log_softmax(-1)
                wanted = torch.tensor(target, device=scores.device)
                return float(scores.gather(1, wanted[:, None]).mean())

            return finish

        rows = [_Row(prompt, finishing(prompt), meter) for prompt in prompts]
        return np.array(self._run(rows), dtype=np.float32)

    # --- the queue ---

    def _run(self, rows: list[_Row]) -> list[float | list[float]]:
        for row in rows:
            if len(row.prompt.ids) > self.model.context:
                raise InvalidInput(
                    f"a prompt of {len(row.prompt.ids)} tokens; the model reads {self.model.context}: "
                    "shorten the query or the passages"
                )
        with self._guard:
            if len(self._waiting) + len(rows) > MAX_WAITING:
                raise Overloaded(f"{len(self._waiting)} prompts wait for the language model; try again in a moment")
            self._waiting += rows
        try:
            while not all(row.done for row in rows):
                with self.turns.turn(rows[0].meter):
                    if not all(row.done for row in rows):
                        self._serve(self._next())
        finally:
            with self._guard:
                self._waiting = [row for row in self._waiting if row not in rows]
        for row in rows:
            if row.error is not None:
                raise row.error
        return [row.result for row in rows if row.result is not None]

    def _next(self) -> list[_Row]:
        """The oldest row and those behind it that fit into a batch with it."""
        with self._guard:
            batch: list[_Row] = []
            for row in self._waiting:
                if batch and _too_many([*batch, row]):
                    break
                batch.append(row)
            self._waiting = self._waiting[len(batch) :]
        return batch

    def _serve(self, rows: list[_Row]) -> None:
        """Give every row its result or its error."""
        import torch

        try:
            with torch.inference_mode():
                self._attempt(rows)
        finally:  # interrupted: nobody may wait for ever
            _fail(rows, Cancelled("the language model was interrupted"))

    def _attempt(self, rows: list[_Row]) -> None:
        """Run a batch. One that memory is too short for is halved, a prompt alone tried again with nothing kept."""
        rows = self._admitted(rows)
        if not rows or self._fits(rows):
            return
        self._kept.clear()
        if len(rows) > 1:
            self._attempt(rows[: len(rows) // 2])
            self._attempt(rows[len(rows) // 2 :])
        elif not self._fits(rows):
            tokens = len(rows[0].prompt.ids)
            _fail(rows, ModelOutOfMemory(f"no memory for a prompt of {tokens} tokens; shorten passages"))

    def _admitted(self, rows: Sequence[_Row]) -> list[_Row]:
        """The rows that their meters allow, each on top of those before it; the others get their error."""
        planned: dict[int, int] = {}
        begun = set(self._kept)
        for row in rows:
            segments, shared, spent = row.prompt.segments, row.prompt.shared, planned.get(id(row.meter), 0)
            beginnings = {joined(segments[:n]): len(segments[n - 1].ids) for n in range(1, shared + 1)}
            spent += len(row.prompt.tail) + sum(n for ids, n in beginnings.items() if ids not in begun)
            try:
                row.meter.allow(spent)
            except Exception as error:  # noqa: BLE001 - raised again in the thread that waits for the row
                row.error = error
                continue
            planned[id(row.meter)] = spent
            begun.update(beginnings)
        return [row for row in rows if row.error is None]

    def _fits(self, rows: Sequence[_Row]) -> bool:
        """Give the rows their results or their error; False where memory ran out, nothing of the try held."""
        try:
            known = self._prepare(rows)
            parts = [_Part(states, row.prompt.tail) for states, row in zip(known, rows, strict=True)]
            hidden, _ = self._pass(parts, [row.meter for row in rows], keep=False)
            for row, part, states in zip(rows, parts, hidden, strict=True):
                row.result = row.finish(states[: len(part.ids)])
        except Exception as error:  # noqa: BLE001 - the error belongs to the threads that wait for these rows
            if no_memory(error):
                return False
            _fail(rows, error)
        return True

    # --- shared beginnings ---

    def _prepare(self, rows: Sequence[_Row]) -> list[KeyValues | None]:
        """The states of what each row begins with. Those not kept are computed in one pass a level, each once."""
        found: dict[Ids, KeyValues] = {}
        for depth in range(1, max(row.prompt.shared for row in rows) + 1):
            missing: dict[Ids, tuple[_Part, Meter]] = {}
            for row in rows:
                if row.prompt.shared < depth:
                    continue
                ids, before = (joined(row.prompt.segments[:n]) for n in (depth, depth - 1))
                if ids in self._kept:
                    self._kept.move_to_end(ids)
                    found[ids] = self._kept[ids]
                elif ids not in found and len(ids) > len(before):
                    missing.setdefault(ids, (_Part(found.get(before), ids[len(before) :]), row.meter))
            for some in _portions(missing):
                parts, meters = zip(*some.values(), strict=True)
                _, states = self._pass(parts, meters, keep=True)
                found |= dict(zip(some, states, strict=True))
        self._keep(found)
        return [found.get(joined(row.prompt.segments[: row.prompt.shared])) for row in rows]

    def _keep(self, found: dict[Ids, KeyValues]) -> None:
        self._kept |= found
        while sum(map(len, self._kept)) > KEPT_TOKENS:
            self._kept.popitem(last=False)

    # --- one pass ---

    def _pass(
        self, parts: Sequence[_Part], meters: Sequence[Meter], *, keep: bool
    ) -> tuple[torch.Tensor, list[KeyValues]]:
        """Hidden states (rows, longest part, width), and with ``keep`` the states of each row, without padding."""
        import torch

        past = max(part.past for part in parts)
        new = max(len(part.ids) for part in parts)
        states = self.model.memory(len(parts), past + new)
        device = states.keys[0].device
        ids = torch.zeros(len(parts), new, dtype=torch.long)
        positions = torch.zeros(len(parts), new, dtype=torch.long)
        mask = torch.zeros(len(parts), 1, new, past + new, dtype=torch.bool)
        mask[:, 0, :, past:] = torch.ones(new, new, dtype=torch.bool).tril_()
        for i, part in enumerate(parts):
            ids[i, : len(part.ids)] = torch.tensor(part.ids)
            positions[i] = torch.arange(part.past, part.past + new).clamp_(max=part.past + len(part.ids) - 1)
            mask[i, 0, :, : part.past] = True
            if part.before is not None:
                for layer, (keys, values) in enumerate(zip(part.before.keys, part.before.values, strict=True)):
                    states.keys[layer][i, :, : part.past] = keys[0]
                    states.values[layer][i, :, : part.past] = values[0]
        states.length = past
        hidden = self.model.forward(ids.to(device), states, mask.to(device), positions=positions.to(device))
        assert hidden is not None
        for meter, part in zip(meters, parts, strict=True):
            meter.count(len(part.ids), passes=0, held=states.bytes)
        for meter in {id(meter): meter for meter in meters}.values():
            meter.passes += 1
        return hidden, [_cut(states, i, part, past) for i, part in enumerate(parts)] if keep else []


def _cut(states: KeyValues, row: int, part: _Part, past: int) -> KeyValues:
    import torch

    def own(tensor: torch.Tensor) -> torch.Tensor:
        kept, fresh = tensor[row : row + 1, :, : part.past], tensor[row : row + 1, :, past : past + len(part.ids)]
        return torch.cat([kept, fresh], dim=2)

    keys, values = [own(tensor) for tensor in states.keys], [own(tensor) for tensor in states.values]
    return KeyValues(keys, values, part.past + len(part.ids))


def _too_many(rows: Sequence[_Row]) -> bool:
    computed = max(len(row.prompt.tail) for row in rows)
    known = max(len(row.prompt.ids) for row in rows)
    return len(rows) * computed > BATCH_TOKENS or len(rows) * known > BATCH_STATES


def _portions(parts: dict[Ids, tuple[_Part, Meter]]) -> Iterator[dict[Ids, tuple[_Part, Meter]]]:
    """The parts in their order, as many at a time as a pass may hold."""
    portion: dict[Ids, tuple[_Part, Meter]] = {}
    for ids, part in parts.items():
        together = [*portion.values(), part]
        computed, known = max(len(p.ids) for p, _ in together), max(p.past + len(p.ids) for p, _ in together)
        if portion and (len(together) * computed > BATCH_TOKENS or len(together) * known > BATCH_STATES):
            yield portion
            portion = {}
        portion[ids] = part
    if portion:
        yield portion


def _fail(rows: Sequence[_Row], error: Exception) -> None:
    for row in rows:
        if not row.done:
            row.error = error


def no_memory(error: Exception) -> bool:
    """True where a pass failed because memory was short."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
