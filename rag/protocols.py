"""The verbs of a pipeline, one protocol a stage. What is made of retrievers is a retriever again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from rag.values import Answer, Chunk, Context, Query, Ranking


@runtime_checkable
class Retriever(Protocol):
    """Finds chunks for a query."""

    def retrieve(self, query: Query, k: int) -> Ranking:
        """The k best chunks, fewer only where fewer match."""
        ...

    def retrieve_many(self, queries: Sequence[Query], k: int) -> list[Ranking]:
        """One ranking a query, each equal to what ``retrieve`` gives."""
        return [self.retrieve(query, k) for query in queries]


@runtime_checkable
class Reranker(Protocol):
    """Orders the chunks of a ranking anew. Never adds, never drops a chunk."""

    def rerank(self, query: Query, ranking: Ranking) -> Ranking: ...


@runtime_checkable
class Selector(Protocol):
    """Chooses the chunks an answer is made from."""

    def select(self, query: Query, ranking: Ranking, budget: int) -> Context:
        """At most ``budget`` tokens of chunks in prompt order, possibly none."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Answers from a context."""

    def stream(self, query: Query, context: Context) -> Iterator[str | Answer]:
        """Pieces of text as they come, and at the end the whole Answer, exactly once."""
        ...

    def generate(self, query: Query, context: Context) -> Answer:
        """The answer, whole."""
        answer = None
        for piece in self.stream(query, context):
            if isinstance(piece, Answer):
                answer = piece
        assert answer is not None, "a generator's stream ends with its Answer"
        return answer


@runtime_checkable
class TokenCounter(Protocol):
    """Counts tokens the way one tokenizer does."""

    @property
    def name(self) -> str: ...

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the tokenizer's own special tokens."""
        ...


@runtime_checkable
class PromptCounter(Protocol):
    """Counts what a prompt takes, the way what answers from it does; the question's own tokens are not counted."""

    def frame(self) -> int:
        """Tokens that stand in the prompt whatever its sources are."""
        ...

    def sources(self, numbers: Sequence[int], chunks: Sequence[Chunk]) -> list[int]:
        """Tokens of each chunk as a source of that number, its separators included."""
        ...
