"""Answers to several requests at once: in each step every running row gets one token, rows come and go between steps.

The weights are read once a step whatever the number of rows: that read is the floor of a step (bytes of weights over
memory bandwidth). A pass always has as many rows as the batch can take and one more, the free ones empty, and every
row's attention is computed by itself over its own states: so a row's numbers, to the bit, are those it would have
alone. (The last row stays empty because torch computes the end of a tensor one by one and the rest in vectors, which
round differently. Where it cuts a tensor among threads, above 32768 numbers, that is so in the middle too: float32
models of width 4096 are equal to rounding only.) The price: a row alone takes 1.3 times as long in bfloat16 and 1.9
times in float32 as in a pass of one row (one CPU core, 8 rows, weights beyond its caches), and attention is one call a
row and layer.

A prompt is read in a turn of its own, in which no step is made.

Nobody's thread is special. A thread whose row has no new token runs the next step for all rows, if no other does; a
caller that does not fetch its tokens holds nobody up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from rag.errors import ModelOutOfMemory, Overloaded
from rag.runtime.decoding import Sampler
from rag.runtime.keyvalues import KeyValues, RowStates
from rag.runtime.meter import Cancelled, Meter, OutOfBudget
from rag.runtime.turns import PATIENCE

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

LEAST_WIDTH = 4
"""Rows of a pass below which matrix products round differently from row to row."""
MAX_WAITING = 256
"""Requests that may wait for a place in the batch."""
T = TypeVar("T")


class Passes(Protocol):
    """What steps need of a model."""

    @property
    def ends(self) -> frozenset[int]: ...
    def alone(self, meter: Meter, work: Callable[[], T], tokens: int) -> T: ...
    def forward(
        self, ids: torch.Tensor, states: RowStates, mask: None, *, positions: torch.Tensor
    ) -> torch.Tensor | None: ...
    def scores(self, hidden: torch.Tensor, labels: None) -> torch.Tensor: ...


@dataclass(slots=True, eq=False)
class _Row:
    """One answer. ``token`` is the one to read next, ``fresh`` those its thread has not fetched.

    It begins while its prompt is read, runs while it has states, and then it is over, whoever still holds it.
    """

    token: int
    sampler: Sampler
    ends: frozenset[int]
    left: int
    meter: Meter
    states: KeyValues | None = None
    begins: bool = True
    over: bool = False
    fresh: deque[int] = field(default_factory=deque)
    error: Exception | None = None

    @property
    def holds(self) -> bool:
        """True where it has states, or is about to."""
        return self.begins or self.states is not None

    def take(self, token: int) -> None:
        """The next token of the answer."""
        assert self.states is not None
        self.states.keep(1)
        self.fresh.append(token)
        self.token, self.left = token, self.left - 1
        if token in self.ends or not self.left:
            self.end()

    def end(self, error: Exception | None = None) -> None:
        """Nothing follows, and the states are free."""
        self.error, self.states, self.over = error, None, True


class BatchDecode:
    """The batch of one model, shared by all who decode with it. At most ``rows`` answers run at once, others wait."""

    def __init__(self, model: Passes, rows: int = 8) -> None:
        self.model, self.rows = model, rows
        self._width = max(LEAST_WIDTH, rows + 1) if rows > 1 else 1
        self._changed = threading.Condition()
        self._queue: deque[_Row] = deque()
        self._inside: list[_Row] = []
        self._led = False

    @property
    def ends(self) -> frozenset[int]:
        """Tokens behind which an answer is over."""
        return self.model.ends

    def tokens(
        self,
        begin: Callable[[], KeyValues],
        last: int,
        sampler: Sampler,
        most: int,
        meter: Meter,
    ) -> Generator[int, None, None]:
        """The tokens of one answer as they come: at most ``most``, or up to and with one of ``ends``.

        begin  the states of the prompt but for its ``last`` token, with room for ``most`` behind; called once the
               request has a place, and again where memory was short until another answer was done
        Closing the iterator leaves the batch. Raises Overloaded, ModelOutOfMemory, OutOfBudget, Cancelled.
        """
        row = _Row(last, sampler, self.ends, most, meter)
        self._enter(row)
        try:
            self._begin(row, begin)
            yield from self._fetched(row)
        finally:
            with self._changed:
                self._inside.remove(row)
                self._changed.notify_all()

    # --- coming in ---

    def _enter(self, row: _Row) -> None:
        """Wait for one of the batch's places, in the order of asking."""
        with self._changed:
            if len(self._queue) >= MAX_WAITING:
                raise Overloaded(f"{len(self._queue)} requests wait for the language model; try again in a moment")
            self._queue.append(row)
            try:
                row.meter.allow()
                while self._queue[0] is not row or sum(not other.over for other in self._inside) >= self.rows:
                    self._changed.wait(PATIENCE)
                    row.meter.allow()
                self._inside.append(row)
            finally:
                self._queue.remove(row)
                self._changed.notify_all()

    def _begin(self, row: _Row, begin: Callable[[], KeyValues]) -> None:
        """Read the prompt. Where memory is short other answers finish first; only where there are none it is an error.

        The states are kept by the row alone, so that they are free as soon as it is over.
        """
        while True:
            try:
                row.states = begin()
            except ModelOutOfMemory:
                with self._changed:
                    row.begins = False
                    others = self._holding()
                    self._changed.notify_all()
                    if not others:
                        raise
                    while self._holding() >= others:
                        self._changed.wait(PATIENCE)
                        row.meter.allow()
                    row.begins = True
            else:
                row.begins = False
                return

    @property
    def waiting(self) -> int:
        """Answers that wait for a place."""
        return len(self._queue)

    def _holding(self) -> int:
        return sum(row.holds for row in self._inside)

    # --- steps ---

    def _fetched(self, row: _Row) -> Iterator[int]:
        """The row's tokens; where there are none, this thread leads a step unless another does."""
        while True:
            with self._changed:
                while self._led and not row.fresh and not row.over:
                    self._changed.wait(PATIENCE)
                    row.meter.allow()
                ready = [row.fresh.popleft() for _ in range(len(row.fresh))]
                if not ready and row.over:
                    if row.error is not None:
                        raise row.error
                    return
                leads = not ready
                self._led = self._led or leads
            if leads:
                self._lead(row.meter)
            else:
                yield from ready

    def _lead(self, meter: Meter) -> None:
        """One step for all rows that run."""
        try:
            self._step(self._allowed(), meter)
        finally:
            with self._changed:
                self._led = False
                self._changed.notify_all()

    def _allowed(self) -> list[_Row]:
        """The rows that run and may go on; those whose request was given up or is out of time leave here."""
        with self._changed:
            running = [row for row in self._inside if row.states is not None]
        for row in running:
            try:
                row.meter.allow()
            except Exception as error:  # noqa: BLE001 - raised again in the thread that fetches the row
                row.end(error)
        return [row for row in running if not row.over]

    def _step(self, rows: Sequence[_Row], meter: Meter) -> None:
        """A token for each row. A batch that fails, for want of memory or else, is halved; one row gets its error."""
        if not rows:
            return
        try:
            logits = self.model.alone(meter, lambda: self._logits(rows), 1)
        except (OutOfBudget, Cancelled):  # the leader's own
            raise
        except Exception as error:  # noqa: BLE001 - raised again in the thread that fetches the row
            if len(rows) == 1:
                rows[0].end(error)
                return
            self._step(rows[: len(rows) // 2], meter)
            self._step(rows[len(rows) // 2 :], meter)
            return
        held = sum(row.states.bytes for row in rows if row.states)
        for row, scores in zip(rows, logits, strict=True):
            row.meter.count(0, held=held)
            row.meter.decoded += 1
            try:
                row.take(row.sampler.pick(scores))
            except Exception as error:  # noqa: BLE001 - raised again in the thread that fetches the row
                row.end(error)

    def _logits(self, rows: Sequence[_Row]) -> NDArray[np.float32]:
        """(rows, vocabulary): the scores behind each row's token."""
        import torch

        assert rows[0].states is not None
        device = rows[0].states.keys[0].device
        empty = [None] * (self._width - len(rows))
        states = RowStates([*(row.states for row in rows), *empty])
        ids = torch.zeros(self._width, 1, dtype=torch.long)
        ids[: len(rows), 0] = torch.tensor([row.token for row in rows])
        positions = torch.tensor(states.positions)[:, None]
        hidden = self.model.forward(ids.to(device), states, None, positions=positions.to(device))
        assert hidden is not None
        found: NDArray[np.float32] = self.model.scores(hidden[:, 0], None)[: len(rows)].cpu().numpy()
        return found
