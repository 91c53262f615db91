"""Pairwise ranking prompting (PRP): the model says which of two passages is more relevant, in both orders."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from rag.protocols import Reranker
from rag.reranking import prompts
from rag.reranking.candidates import candidates
from rag.reranking.comparing import Compare, Memo, Pair, Preference, Sorted
from rag.reranking.passages import PROMPT_TOKENS
from rag.reranking.prompts import Form
from rag.reranking.questions import Questions
from rag.reranking.sorting import allpair, heapsort, quickselect, sliding
from rag.runtime.meter import Limits, Meter
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Array, Reader
from rag.runtime.tokens import Ids
from rag.values import Query, Ranking, ScoreKind

Sort = Literal["heapsort", "allpair", "sliding", "quickselect"]
SORTS: dict[str, Callable[[int, int, Compare], Sorted]] = {
    "heapsort": partial(heapsort, batched=True),
    "allpair": allpair,
    "sliding": sliding,
    "quickselect": quickselect,
}
TIE = 1e-300
"""What decides a tie: less than any margin of float32 scores."""


@dataclass(frozen=True)
class PairwiseReranker(Reranker):
    """The ``k`` best of the ``depth`` best by a sorter over the model's preferences (Qin et al., NAACL 2024).

    sort            heapsort, sliding and quickselect bring the k best to the front and give n - rank as scores; allpair
                    ranks all by wins + 0.5 x ties
    passage_tokens  tokens of a passage that are read; 0 reads all
    A passage wins where both orders prefer it, anything else is a tie, and equals keep their input order: heapsort,
    which is not stable of itself, is told that the tied passage with the better input rank wins. Each pair is asked
    once. Passages without text are not read and stay behind. At a limit the best order so far is the result.
    """

    model: Reader
    sort: Sort = "heapsort"
    k: int = 10
    depth: int = 100
    passage_tokens: int = PROMPT_TOKENS
    limits: Limits = Limits()

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        started, meter = time.perf_counter(), Meter(self.limits)
        found = candidates(ranking, self.depth)
        n = len(found.places)
        if n < 2:
            return found.ordered(range(n), started=started, meter=meter)
        form = prompts.pairwise(self.model, query.text)
        passages, notes = found.encoded(self.model, form, self.passage_tokens, together=2)
        judge = Judge(self.model, form, passages, meter)
        memo = Memo(judge)
        result = SORTS[self.sort](n, self.k, by_input_rank(memo) if self.sort == "heapsort" else memo)
        notes = (f"{memo.computed} pairs were compared", *notes)
        if self.sort == "allpair":
            degraded = judge.questions.shortfall(result, f"{memo.computed} of {n * (n - 1) // 2} pairs were compared")
            return found.scored(
                result.scores,
                kind=ScoreKind.WINS,
                bound=n - 1.0,
                started=started,
                meter=meter,
                degraded=degraded,
                notes=notes,
            )
        degraded = judge.questions.shortfall(result, f"{result.settled} of {result.places} places were settled")
        return found.ordered(result.order, started=started, meter=meter, degraded=degraded, notes=notes)


def by_input_rank(compare: Compare) -> Compare:
    """The same preferences without ties: the document of the better input rank wins by next to nothing."""

    def decided(pairs: Sequence[Pair]) -> list[Preference]:
        return [u or math.copysign(TIE, b - a) for (a, b), u in zip(pairs, compare(pairs), strict=True)]

    return decided


class Judge:
    """A Compare: the model's preference in both orders.

    margins  (a, b) -> log p(a) - log p(b), the mean of both orders, of every pair that was asked
    """

    def __init__(self, model: Reader, form: Form, passages: Sequence[Ids], meter: Meter) -> None:
        self.questions = Questions(model, form.labels, meter)
        self.margins: dict[Pair, float] = {}
        self._form, self._passages = form, passages

    def __call__(self, pairs: Sequence[Pair]) -> list[Preference]:
        return self.questions.ask(pairs, self.prompts, self._answer)

    def prompts(self, pair: Pair) -> tuple[Prompt, Prompt]:
        first, second = (self._passages[document] for document in pair)
        return self._form.write((first, second)), self._form.write((second, first))

    def _answer(self, pair: Pair, scores: Array) -> Preference:
        """scores: (2 orders, 2 labels); in the second order, label B is the pair's first document."""
        shown, swapped = float(scores[0, 0] - scores[0, 1]), float(scores[1, 1] - scores[1, 0])
        self.margins[pair] = (shown + swapped) / 2
        return preference(shown, swapped)


def preference(shown: float, swapped: float) -> Preference:
    """u in [-1, 1] of the log-odds that the first document won in either order: 0 unless both have the same sign.

    The size is tanh of half their mean, so for one order p(first) - p(second). What is not a number is a tie.
    """
    if shown > 0 < swapped or shown < 0 > swapped:
        return math.tanh((shown + swapped) / 4)
    return 0.0
