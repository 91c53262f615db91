"""What whoever waits for a training run sees: a bar on a terminal, else lines; and log.jsonl."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rag.embedded_model.steps import Figures

LINE_SECONDS = 30


class Watching:
    """Shows progress on stderr and appends figures to ``folder``/log.jsonl every LINE_SECONDS."""

    def __init__(self, folder: Path, steps: int) -> None:
        self._log = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._console = Console(stderr=True)
        self._steps = steps
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._clear()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console)
            self._bar.start()
            self._task = self._bar.add_task("training", total=self._steps)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._log.close()

    def begin(self, done: int) -> None:
        """The first ``done`` steps were taken before."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        self._clear()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def note(self, row: dict[str, Any]) -> None:
        """A row of the log that is shown too."""
        self._write(row)
        self.say("  ".join(f"{key} {value}" for key, value in (row.get("dev") or row).items() if key != "sources"))

    def step(self, done: int, figures: Figures, seconds: float) -> None:
        self._sum.add(figures)
        self._count += 1
        self._seconds += seconds
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=self._line(done))
        if time.monotonic() - self._told >= LINE_SECONDS or done == self._steps:
            rate = self._sum.tokens / max(self._seconds, 1e-9)
            self._write(
                {"step": done, **self._sum.shares(self._count), "tokens_per_s": round(rate), "steps": self._count}
            )
            if self._bar is None:
                self.say(self._line(done))
            self._clear()

    def _line(self, done: int) -> str:
        shares = self._sum.shares(self._count)
        left = (self._steps - done) * self._seconds / max(1, self._count)
        return (
            f"{done}/{self._steps} heads {shares['heads_loss']:.3f} ({shares['heads_accuracy']:.2f}) "
            f"text {shares['text_loss']:.3f} marks {shares['marks_accuracy']:.2f} "
            f"places {shares.get('place_accuracy', 0):.2f} pairs {shares.get('pairwise_accuracy', 0):.2f} "
            f"letters {shares.get('listwise_accuracy', 0):.2f} "
            f"{self._sum.tokens / max(self._seconds, 1e-9):.0f} tokens/s, {left / 60:.0f} min left"
        )

    def _write(self, row: dict[str, Any]) -> None:
        self._log.write(json.dumps(row) + "\n")
        self._log.flush()

    def _clear(self) -> None:
        self._sum, self._count, self._seconds = Figures(), 0, 0.0
        self._told = time.monotonic()
