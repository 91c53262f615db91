"""Setwise prompting: the model names the most relevant of a few passages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rag.errors import InvalidConfig
from rag.protocols import Reranker
from rag.reranking import prompts
from rag.reranking.candidates import candidates
from rag.reranking.comparing import Sorted
from rag.reranking.passages import PROMPT_TOKENS
from rag.reranking.prompts import SET_LABELS, Form
from rag.reranking.questions import Questions
from rag.reranking.set_sorting import Group, heapsort, insertion, tourrank
from rag.runtime.meter import Limits, Meter
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Array, Reader
from rag.runtime.tokens import Ids
from rag.values import Query, Ranking

Sort = Literal["insertion", "heapsort", "tourrank"]
TOURNAMENT = 20
"""Documents of a tournament's largest group."""


@dataclass(frozen=True)
class SetwiseReranker(Reranker):
    """The ``k`` best of the ``depth`` best by a sorter that asks for the best of a group (Zhuang et al., SIGIR 2024).

    sort            insertion (Podolak et al., SIGIR 2025) asks least of a nearly sorted list; heapsort; tourrank
    group           documents that a prompt compares with one other, so it shows group + 1; tourrank shows up to 20
    passage_tokens  tokens of a passage that are read; 0 reads all
    The scores of the label tokens decide; equal ones go to the passage that stands first, which is the better one of
    the input except in tourrank's shuffled groups. Scores are n - rank. Passages without text are not read and stay
    behind. At a limit the best order so far is the result. Raises InvalidConfig for a group of less than 1 or over 22.
    """

    model: Reader
    sort: Sort = "insertion"
    k: int = 10
    depth: int = 100
    group: int = 3
    passage_tokens: int = PROMPT_TOKENS
    limits: Limits = Limits()
    tournaments: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.group < len(SET_LABELS):
            raise InvalidConfig(
                f"group = {self.group}; a prompt shows 2 to {len(SET_LABELS)} passages, one of them fixed"
            )

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        started, meter = time.perf_counter(), Meter(self.limits)
        found = candidates(ranking, self.depth)
        n = len(found.places)
        if n < 2:
            return found.ordered(range(n), started=started, meter=meter)
        together = min(n, TOURNAMENT if self.sort == "tourrank" else self.group + 1)
        form = prompts.setwise(self.model, query.text, together)
        passages, notes = found.encoded(self.model, form, self.passage_tokens, together)
        chooser = Chooser(self.model, form, passages, meter)
        result = self._sorted(n, chooser)
        asked = chooser.questions
        return found.ordered(
            result.order,
            started=started,
            meter=meter,
            degraded=asked.shortfall(result, f"{result.settled} of {result.places} places were settled"),
            notes=(f"{asked.answered} groups were compared", *notes),
        )

    def _sorted(self, n: int, chooser: Chooser) -> Sorted:
        if self.sort == "tourrank":
            return tourrank(n, self.k, chooser.keep, tournaments=self.tournaments)
        return (heapsort if self.sort == "heapsort" else insertion)(n, self.k, chooser.best, children=self.group)


class Chooser:
    """Answers the set sorters with the model's label scores; a score that is not a number is the lowest."""

    def __init__(self, model: Reader, form: Form, passages: Sequence[Ids], meter: Meter) -> None:
        self.questions = Questions(model, form.labels, meter)
        self._form, self._passages = form, passages

    def best(self, groups: Sequence[Group]) -> list[int]:
        """The position of the best in each group, the first of equals."""
        return self.questions.ask(groups, self._prompts, lambda group, scores: _by_score(group, scores)[0])

    def keep(self, games: Sequence[tuple[Group, int]]) -> list[Group]:
        """The best m of each group, best first."""
        return self.questions.ask(
            games,
            lambda game: self._prompts(game[0]),
            lambda game, scores: tuple(game[0][position] for position in _by_score(game[0], scores)[: game[1]]),
        )

    def _prompts(self, group: Group) -> list[Prompt]:
        return [self._form.write([self._passages[document] for document in group])]


def _by_score(group: Group, scores: Array) -> list[int]:
    """Positions in the group by descending score; scores: (1, labels), of which the group uses the first."""
    used = np.nan_to_num(scores[0, : len(group)], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    return sorted(range(len(group)), key=lambda position: -used[position])
