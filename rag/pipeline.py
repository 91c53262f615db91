"""A pipeline: retrieve, select, generate. The one object behind the CLI, the API and the evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rag.errors import GeneratorUnavailable, InvalidQuery
from rag.protocols import Generator, Retriever, Selector
from rag.values import Answer, Context, Query, Ranking, StageReport

MAX_BUDGET = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Named stages over one collection.

    fallback   answers where ``generator`` is not available; None lets the error through
    candidates  chunks that the selector weighs at most: retrieved for it where no k is named, if they are more than k
    max_k, max_query_chars  bounds that every question is checked against before any stage runs
    """

    name: str
    retriever: Retriever
    selector: Selector
    generator: Generator
    fallback: Generator | None = None
    k: int = 10
    depth: int = 100
    budget: int = 1024
    candidates: int = 0
    max_k: int = 10_000
    max_query_chars: int = 8192

    def search(self, query: Query, k: int | None = None) -> Ranking:
        """The k best chunks. Raises InvalidQuery."""
        wanted = self._checked(query, self.k if k is None else k)
        return self.retriever.retrieve(query, wanted)

    def search_many(self, queries: Sequence[Query], k: int | None = None) -> list[Ranking]:
        """One ranking a query, each as ``search`` gives it."""
        wanted = self.k if k is None else k
        for query in queries:
            self._checked(query, wanted)
        return self.retriever.retrieve_many(queries, wanted)

    def select(self, query: Query, ranking: Ranking, budget: int | None = None) -> Context:
        """Chunks of a ranking for the prompt. Raises InvalidQuery for a budget out of range."""
        wanted = self.budget if budget is None else budget
        if not 0 <= wanted <= MAX_BUDGET:
            raise InvalidQuery(f"budget = {wanted}; a budget lies between 0 and {MAX_BUDGET} tokens")
        return self.selector.select(query, ranking, wanted)

    def context(self, query: Query, budget: int | None = None, k: int | None = None) -> Context:
        """Retrieve and select: everything of an answer but the answer."""
        wanted = max(self.k, self.candidates) if k is None else k
        return self.select(query, self.search(query, wanted), budget)

    def answer(self, query: Query, budget: int | None = None, k: int | None = None) -> Answer:
        """The answer, whole."""
        *_, last = self.stream(query, self.context(query, budget, k))
        assert isinstance(last, Answer)
        return last

    def stream(self, query: Query, context: Context) -> Iterator[str | Answer]:
        """Pieces of the answer, then the Answer. Falls back, flagged, only while no piece has been given out."""
        begun = False
        try:
            for piece in self.generator.stream(query, context):
                begun = True
                yield piece
        except GeneratorUnavailable as error:
            if begun or self.fallback is None:
                raise
            for piece in self.fallback.stream(query, context):
                yield _flagged(piece, str(error)) if isinstance(piece, Answer) else piece

    def _checked(self, query: Query, k: int) -> int:
        check_query(query, self.max_query_chars)
        if not 1 <= k <= self.max_k:
            raise InvalidQuery(f"k = {k}; k lies between 1 and {self.max_k}")
        return k


def check_query(query: Query, max_chars: int) -> None:
    """Raises InvalidQuery for a query without a visible character or with more than ``max_chars`` of all kinds."""
    if not query.text.strip():
        raise InvalidQuery("the query is empty; ask something")
    if len(query.text) > max_chars:
        raise InvalidQuery(f"the query has {len(query.text)} characters; the limit is {max_chars} (max_query_chars)")


def _flagged(answer: Answer, why: str) -> Answer:
    return replace(answer, report=replace(answer.report, degraded=f"the configured generator failed: {why}"))


def trace(ranking: Ranking, *more: StageReport) -> list[StageReport]:
    """Reports of all stages in the order they ran."""
    return [stage.report for stage in ranking.stages()] + list(more)
