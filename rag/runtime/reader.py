"""What rerankers ask of a language model. Two kinds answer: real models, and the lexical stand-in for demos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rag.runtime.families import Family
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt
from rag.runtime.tokens import PromptTokenizer

Array = NDArray[np.float32]
Heads = Mapping[int, tuple[int, ...]]
"""Layer -> query heads, both from 0."""


@runtime_checkable
class Reader(Protocol):
    """A language model that reads prompts and is asked for attention or for the scores of label tokens.

    context  tokens a prompt may have;  shape  (layers, query heads)
    labelled  whether a passage may begin with the label of its place; not where its states are kept for every place
    Every call counts what it computed on the request's meter and stops where the meter does not allow more.
    Threads may share a reader.
    """

    name: str

    @property
    def labelled(self) -> bool:
        return True

    @property
    def repeats(self) -> bool:
        """True where attention to a prompt is the same however often it is asked for."""
        return True

    @property
    def folder(self) -> str:
        """The model's directory, "" where it has none on this machine."""
        return ""

    @property
    def fingerprint(self) -> str: ...

    @property
    def tokenizer(self) -> PromptTokenizer: ...

    @property
    def family(self) -> Family: ...

    @property
    def context(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    def computed(self, passages: Sequence[tuple[int, ...]]) -> list[int]:
        """How many tokens of each passage a prompt with it will make the model compute, at most."""
        return [len(ids) for ids in passages]

    def attention(
        self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter, heads: Heads | None = None
    ) -> list[Array]:
        """For each suffix, (len(prefix),) float32: the attention its rows pay to each token of the prefix.

        Mean over the suffix's rows, sum over ``heads`` (None: all of all layers). The prefix is computed once.
        """
        ...

    def head_attention(self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter) -> list[Array]:
        """As ``attention``, head by head: (layers, heads, len(prefix)) float32."""
        ...

    def labels(self, prompts: Sequence[Prompt], labels: Sequence[int], meter: Meter) -> Array:
        """(prompts, labels) float32: log-probabilities of the label tokens behind each prompt, among the labels."""
        ...

    def likelihood(self, prompts: Sequence[Prompt], meter: Meter) -> Array:
        """(prompts,) float32: mean log-probability of each prompt's last segment given what stands before it."""
        ...

    def forget(self) -> None:
        """Give up what is kept of prompts for a while, for prompts that begin alike. Keeps nothing by default."""
        return
