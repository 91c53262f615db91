"""Questions that a model answers with label scores, asked in batches, so that a stop keeps what was answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from rag.reranking.comparing import OutOfBudget, Sorted
from rag.runtime.meter import Limits, Meter
from rag.runtime.meter import OutOfBudget as BudgetUsedUp
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Array, Reader

AT_ONCE = 256
"""Prompts of one call."""
AT_ONCE_LIMITED = 16
"""Prompts of one call where a limit may stop it: the answers to a call that is stopped are lost."""

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Questions:
    """Asks for one request.

    answered  questions that have an answer;  unclear  prompts whose scores were no numbers
    stopped   why it may not go on, "" while it may
    """

    def __init__(self, reader: Reader, labels: Sequence[int], meter: Meter) -> None:
        self.answered = 0
        self.unclear = 0
        self.stopped = ""
        self._reader, self._labels, self._meter = reader, labels, meter

    def ask(
        self,
        questions: Sequence[Question],
        prompts: Callable[[Question], Sequence[Prompt]],
        answer: Callable[[Question, Array], Answer],
    ) -> list[Answer]:
        """``answer`` of each question and its (prompts, labels) log-probabilities.

        All questions have equally many prompts. Raises the sorters' OutOfBudget with the answers before the stop.
        """
        answers: list[Answer] = []
        waiting = [(question, list(prompts(question))) for question in questions]
        size = AT_ONCE if self._meter.limits == Limits() else AT_ONCE_LIMITED
        step = max(1, size // max((len(asked) for _, asked in waiting), default=1))
        for at in range(0, len(waiting), step):
            part = waiting[at : at + step]
            try:
                rows = self._reader.labels([prompt for _, asked in part for prompt in asked], self._labels, self._meter)
            except BudgetUsedUp as error:
                self.stopped = str(error)
                raise OutOfBudget(answers) from error
            each = rows.reshape(len(part), -1, len(self._labels))
            self.unclear += sum(bool((row != row).any()) for row in rows)
            answers += [answer(question, given) for (question, _), given in zip(part, each, strict=True)]
            self.answered += len(part)
        return answers

    def shortfall(self, result: Sorted, what: str) -> str:
        """How far a sorter came, and prompts without an answer: "" where nothing is missing."""
        missing = []
        if not result.complete:
            missing.append(f"partial, {what}: {self.stopped}")
        if self.unclear:
            missing.append(f"{self.unclear} prompts had scores that were not numbers and decided nothing")
        return "; ".join(missing)
