"""What a prompt takes of a language model's tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rag.errors import ModelNotAvailable
from rag.generation.prompt import frame, labelled
from rag.protocols import PromptCounter
from rag.runtime.families import Family
from rag.runtime.tokens import PromptTokenizer
from rag.values import Chunk

Form = tuple[PromptTokenizer, Family]


class LocalCounter(PromptCounter):
    """Counts what ``written`` writes. ``form`` is asked when first needed and loads no weights.

    Where the model is not available, ``otherwise`` counts: what answers then is not the model either.
    """

    def __init__(self, form: Callable[[], Form], otherwise: PromptCounter) -> None:
        self._form, self._otherwise = form, otherwise

    def frame(self) -> int:
        if (form := self._there()) is None:
            return self._otherwise.frame()
        return sum(map(len, frame(*form)))

    def sources(self, numbers: Sequence[int], chunks: Sequence[Chunk]) -> list[int]:
        if (form := self._there()) is None:
            return self._otherwise.sources(numbers, chunks)
        labels, texts = labelled(form[0], numbers, chunks)
        return [len(label) + len(text) for label, text in zip(labels, texts, strict=True)]

    def _there(self) -> Form | None:
        try:
            return self._form()
        except ModelNotAvailable:
            return None
