"""Tokens as a language model's tokenizer counts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rag.errors import ModelNotAvailable
from rag.runtime.tokens import PromptTokenizer


class ModelCounter:
    """Counts by the tokenizer that ``tokenizer`` gives, asked for when first needed; its weights are not.

    Where the model is not available, ``otherwise`` counts: what answers then is not the model either.
    """

    def __init__(
        self, name: str, tokenizer: Callable[[], PromptTokenizer], otherwise: Callable[[Sequence[str]], list[int]]
    ) -> None:
        self.name = name
        self._tokenizer, self._otherwise = tokenizer, otherwise

    def __call__(self, texts: Sequence[str]) -> list[int]:
        try:
            tokenizer = self._tokenizer()
        except ModelNotAvailable:
            return self._otherwise(texts)
        return [len(ids) for ids in tokenizer.encode_many(list(texts))]
