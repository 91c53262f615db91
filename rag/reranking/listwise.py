"""Listwise reranking by one token (FIRST): a window is ordered by the scores of the letters that could come first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag.errors import InvalidConfig
from rag.protocols import Reranker
from rag.reranking import prompts
from rag.reranking.candidates import candidates
from rag.reranking.passages import PROMPT_TOKENS
from rag.reranking.prompts import LIST_LABELS, Form
from rag.runtime.meter import Limits, Meter, OutOfBudget
from rag.runtime.reader import Reader
from rag.runtime.tokens import Ids
from rag.values import Query, Ranking


@dataclass(frozen=True)
class ListwiseReranker(Reranker):
    """Windows from the bottom of the ``depth`` best to their top, one forward pass each (Reddy et al., EMNLP 2024).

    window, stride  passages of a prompt (2 to 20), and by how many the next window stands higher
    passage_tokens  tokens of a passage that are read; 0 reads all
    The window shrinks so that its prompt fits the model's context; passages are cut only where two do not fit. Equal
    letters keep their order. Scores are n - rank. Passages without text are not read and stay behind. At a limit the
    windows read so far count. Works with any instruct model; models trained for it rank better. Raises InvalidConfig.
    """

    model: Reader
    window: int = 20
    stride: int = 10
    depth: int = 100
    passage_tokens: int = PROMPT_TOKENS
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not 2 <= self.window <= len(LIST_LABELS) or not 1 <= self.stride < self.window:
            raise InvalidConfig(
                f"window = {self.window}, stride = {self.stride}; a window has 2 to {len(LIST_LABELS)} passages, "
                "a stride at least 1 and less than the window"
            )

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        started, meter = time.perf_counter(), Meter(self.limits)
        found = candidates(ranking, self.depth)
        n = len(found.places)
        if n < 2:
            return found.ordered(range(n), started=started, meter=meter)
        form = prompts.listwise(self.model, query.text, min(n, self.window))
        passages, notes = found.encoded(self.model, form, self.passage_tokens, together=2)
        window = fitting(form, passages, min(n, self.window), self.model.context)
        planned = windows(n, window, min(self.stride, max(1, window // 2)))
        if window < min(n, self.window):
            notes = (f"{window} passages a window fit the model's context", *notes)
        order, missing = list(range(n)), []
        done = unclear = 0
        try:
            for start, end in planned:
                shown = order[start:end]
                prompt = form.write([passages[document] for document in shown])
                scores = self.model.labels([prompt], form.labels[: len(shown)], meter)[0]
                unclear += int(np.isnan(scores).any())
                if not np.isnan(scores).any():
                    order[start:end] = [shown[at] for at in sorted(range(len(shown)), key=lambda at: -scores[at])]
                done += 1
        except OutOfBudget as error:
            missing.append(f"partial, {done} of {len(planned)} windows were read: {error}")
        if unclear:
            missing.append(f"{unclear} windows had scores that were not numbers and kept their order")
        notes = (f"{done} windows of {window} passages", *notes)
        return found.ordered(order, started=started, meter=meter, degraded="; ".join(missing), notes=notes)


def windows(n: int, window: int, stride: int) -> list[tuple[int, int]]:
    """[start, end) from the bottom up, each ``stride`` higher, the last at 0: 9 for n = 100, 20 and 10."""
    starts = [*range(n - window, 0, -stride), 0] if n > window else [0]
    return [(start, min(n, start + window)) for start in starts]


def fitting(form: Form, passages: Sequence[Ids], window: int, context: int) -> int:
    """The largest window, from 2 up to ``window``, that fits whichever of the passages stand in it."""
    longest = sorted(map(len, passages), reverse=True)
    sizes = range(window, 2, -1)
    return next((size for size in sizes if form.overhead(size) + sum(longest[:size]) <= context), 2)
