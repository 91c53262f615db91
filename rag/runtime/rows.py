"""Many short prompts at once: prompts of all waiting threads share batches, and share what they begin with.

A thread puts its rows down and waits for the model; whoever gets the model next runs everything that lies there. So
batches form by themselves under load, and nobody waits when there is none. A row is padded and masked: what it gives
depends on the rows beside it by rounding only (1e-6 in float32).
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rag.errors import InvalidInput, ModelOutOfMemory, Overloaded
from rag.runtime.keyvalues import KeyValues
from rag.runtime.meter import Cancelled, Meter, turn
from rag.runtime.prompt import Prompt, joined
from rag.runtime.reader import Array

if TYPE_CHECKING:
    import torch

BATCH_TOKENS = 2048
"""Padded tokens of one pass."""
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


@dataclass(slots=True)
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
    """The queue, the batches and the kept beginnings of one model. ``lock`` is the model's."""

    model: Passes
    lock: threading.RLock
    _waiting: deque[_Row] = field(default_factory=deque)
    _kept: OrderedDict[Ids, KeyValues] = field(default_factory=OrderedDict)
    batch_tokens: int = BATCH_TOKENS

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
                raise InvalidInput(f"a prompt of {len(row.prompt.ids)} tokens; the model reads {self.model.context}")
        if len(self._waiting) + len(rows) > MAX_WAITING:
            raise Overloaded(f"{len(self._waiting)} prompts wait for the language model; try again in a moment")
        self._waiting.extend(rows)
        while not all(row.done for row in rows):
            with turn(self.lock, rows[0].meter):
                if not all(row.done for row in rows):
                    self._serve([self._waiting.popleft() for _ in range(len(self._waiting))])
        for row in rows:
            if row.error is not None:
                raise row.error
        return [row.result for row in rows if row.result is not None]

    def _serve(self, rows: list[_Row]) -> None:
        """Give every row its result or its error."""
        import torch

        try:
            with torch.inference_mode():
                for batch in _batches(rows, self.batch_tokens):
                    self._attempt(batch)
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
            if _no_memory(error):
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
            if missing:
                parts, meters = zip(*missing.values(), strict=True)
                _, states = self._pass(parts, meters, keep=True)
                found |= dict(zip(missing, states, strict=True))
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
            positions[i] = torch.arange(part.past, part.past + new)
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


def _batches(rows: Sequence[_Row], tokens: int) -> list[list[_Row]]:
    """Rows of like length together; longest first, so that a batch pads little."""
    batches: list[list[_Row]] = []
    for row in sorted(rows, key=lambda row: -len(row.prompt.tail)):
        if batches and (len(batches[-1]) + 1) * len(batches[-1][0].prompt.tail) <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _fail(rows: Sequence[_Row], error: Exception) -> None:
    for row in rows:
        if not row.done:
            row.error = error


def _no_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
