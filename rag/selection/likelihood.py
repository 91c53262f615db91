"""How likely the question is after a set of chunks, by a language model that may have read them before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from rag.errors import ModelNotAvailable
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Role, Segment
from rag.runtime.reader import Reader
from rag.runtime.tokens import Control
from rag.selection.problem import Selection
from rag.selection.terms import Array, Term
from rag.values import Chunk

MAX_QUESTION_TOKENS = 128


class Likelihood(Term):
    """The share by which the chosen chunks lower the perplexity of the question: 1 - ppl(q | S) / ppl(q), 0 at least.

    UPR (Sachan et al., EMNLP 2022) over a set: the model is asked to write the question that the passages answer, and
    what it would write without any is taken off, so that models and questions share a scale. ppl(q | S) is
    exp(-log p(q | S) / |q|). The order of the selection is the order in the prompt. All selections of a call are one
    call of the reader, each is asked once; the empty one, whose value is 0, with the first of them.

    reader  gives the model, when a set is first valued: the model, or a reader that reuses cached states of chunks
    meter   counts what it computes
    Raises ModelNotAvailable where the model's answer is no number.
    """

    def __init__(
        self, reader: Callable[[], Reader], question: str, chunks: Sequence[Chunk], longest: int, meter: Meter
    ) -> None:
        self.meter = meter
        self._reader_of, self._question, self._chunks, self._longest = reader, question, chunks, longest
        self._known: dict[Selection, float] = {(): 0.0}
        self._alone: float | None = None
        """Mean log-probability of the question's tokens without any chunk."""

    def __call__(self, selections: Sequence[Selection]) -> Array:
        if new := [selection for selection in dict.fromkeys(selections) if selection not in self._known]:
            asked = new if self._alone is not None else [(), *new]
            found = self._reader.likelihood([self.prompt(one) for one in asked], self.meter).astype(np.float64)
            if np.isnan(found).any():
                raise ModelNotAvailable("the likelihood of the question is no number; load the model in float32")
            if self._alone is None:
                self._alone, found = float(found[0]), found[1:]
            values = 1.0 - np.exp(np.minimum(0.0, self._alone - found))
            self._known.update(zip(new, values.tolist(), strict=True))
        return np.array([self._known[selection] for selection in selections], dtype=np.float64)

    def knows(self, selection: Selection) -> bool:
        """Whether its value is known without asking the model."""
        return selection in self._known

    def most(self, chosen: Selection, others: Sequence[int]) -> float:
        return 1.0

    def least(self, chosen: Selection, others: Sequence[int]) -> float:
        return 0.0

    def reads(self, selection: Selection) -> int:
        """Tokens that the model computes at most to value a selection, chunks that are not stored yet among them."""
        prompt = self.prompt(selection)
        passages = sum(len(self._passages[i]) for i in selection)
        alone = len(self.prompt(()).ids) if self._alone is None and selection else 0
        return alone + len(prompt.ids) - passages + sum(self._computed[i] for i in selection)

    @cached_property
    def _computed(self) -> list[int]:
        """Of each chunk, when the question came."""
        return self._reader.computed(self._passages)

    def prompt(self, selection: Selection) -> Prompt:
        """The task, the chunks in the order of the selection, and the question last; all but the question is shared.

        With the chunks' states kept, what is computed is the question, and the few tokens between chunks and turns.
        """
        start, between, end, asked = self._frame
        parts = [start]
        for place, i in enumerate(selection):
            parts += [between] * bool(place) + [Segment(self._passages[i], Role.PASSAGE)]
        return Prompt((*parts, end, asked), shared=len(parts))

    @cached_property
    def _reader(self) -> Reader:
        return self._reader_of()

    @cached_property
    def _passages(self) -> list[tuple[int, ...]]:
        tokenizer = self._reader.tokenizer
        return [tuple(ids[: self._longest]) for ids in tokenizer.encode_many([c.titled for c in self._chunks])]

    @cached_property
    def _frame(self) -> tuple[Segment, Segment, Segment, Segment]:
        tokenizer, chat = self._reader.tokenizer, self._reader.family.chat
        task = "Please write the question that these passages answer together.\n\n"
        start = tokenizer.start(Control(chat.user), task)
        blank = " " if chat.assistant.endswith(":") else ""
        asked = tokenizer.encode(blank + self._question.strip())[:MAX_QUESTION_TOKENS]
        return (
            Segment(tuple(start)),
            Segment(tuple(tokenizer.encode("\n\n"))),
            Segment(tuple(tokenizer.encode(Control(chat.assistant)))),
            Segment(tuple(asked), Role.QUERY),
        )
