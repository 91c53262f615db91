"""Pointwise reranking: the model scores one passage at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rag.protocols import Reranker
from rag.reranking import prompts
from rag.reranking.candidates import candidates
from rag.reranking.passages import PROMPT_TOKENS
from rag.reranking.prompts import Form
from rag.runtime.meter import Limits, Meter, OutOfBudget
from rag.runtime.reader import Reader
from rag.runtime.tokens import Ids
from rag.values import Query, Ranking, ScoreKind

AT_ONCE = 32
"""Passages of one call: what a stop may lose."""


@dataclass(frozen=True)
class PointwiseReranker(Reranker):
    """Each of the ``depth`` best on its own.

    kind            yes-no: log p(Yes) - log p(No) that the passage answers the query; likelihood: mean log-probability
                    of the query's tokens as a question about the passage (UPR)
    passage_tokens  tokens of a passage that are read; 0 reads all
    Equal scores keep their input order. Passages without text are not read and stay behind; so do those that a limit
    left unread.
    """

    model: Reader
    kind: Literal["yes-no", "likelihood"] = "yes-no"
    depth: int = 100
    passage_tokens: int = PROMPT_TOKENS
    limits: Limits = Limits()

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        started, meter = time.perf_counter(), Meter(self.limits)
        found = candidates(ranking, self.depth)
        kind = ScoreKind.SIGMOID_LOGIT if self.kind == "yes-no" else ScoreKind.LIKELIHOOD
        n = len(found.places)
        if not n or not query.text.strip():
            return found.scored([None] * n, kind=kind, started=started, meter=meter)
        form = (prompts.yes_no if self.kind == "yes-no" else prompts.likelihood)(self.model, query.text)
        passages, notes = found.encoded(self.model, form, self.passage_tokens, together=1)
        scores: list[float | None] = []
        degraded = ""
        try:
            for at in range(0, n, AT_ONCE):
                scores += self._scores(form, passages[at : at + AT_ONCE], meter)
        except OutOfBudget as error:
            degraded = f"partial, {len(scores)} of {n} passages were scored: {error}"
        scores += [None] * (n - len(scores))
        return found.scored(scores, kind=kind, started=started, meter=meter, degraded=degraded, notes=notes)

    def _scores(self, form: Form, passages: Sequence[Ids], meter: Meter) -> list[float]:
        asked = [form.write([ids]) for ids in passages]
        if self.kind == "likelihood":
            return [float(score) for score in self.model.likelihood(asked, meter)]
        return [float(yes - no) for yes, no in self.model.labels(asked, form.labels, meter)]
