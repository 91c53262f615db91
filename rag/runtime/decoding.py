"""From scores to tokens and from tokens to text, one token at a time. Pure: no model is asked here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.errors import ModelNotAvailable
from rag.runtime.families import Family
from rag.runtime.tokens import Control, PromptTokenizer

_BROKEN = "\ufffd"
"""What stands for bytes that are no character, or not yet."""
_NUCLEUS = 64
"""Tokens among which a nucleus is looked for first; eight times as many where they are too few."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    temperature  0 takes the best, ties the lower id
    top_p        the likeliest tokens whose probabilities add up to it take part (Holtzman et al., ICLR 2020)
    seed         the same seed and prompt give the same answer
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Sampler:
    """Chooses the tokens of one answer. One random number a token, from a PCG64 of its own."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))

    def pick(self, logits: NDArray[np.float32]) -> int:
        """A token id by the logits (vocabulary,). Raises ModelNotAvailable where the best of them is no number."""
        best = int(logits.argmax())
        if not np.isfinite(logits[best]):
            raise ModelNotAvailable("the model's scores are not numbers; load it in float32 or bfloat16")
        if not self._sampling.temperature:
            return best
        scaled = (logits.astype(np.float64) - float(logits[best])) / self._sampling.temperature
        weights = np.exp(scaled)
        weights /= weights.sum()
        ids = _nucleus(weights, self._sampling.top_p)
        reached = weights[ids].cumsum()
        place = int(reached.searchsorted(self._random.random() * reached[-1], side="right"))
        return int(ids[min(place, len(ids) - 1)])


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.int64]:
    """Ids of the fewest likeliest tokens that together have ``top_p``, the likeliest first, ties by id; at least 1."""
    if top_p >= 1.0:
        return np.arange(len(weights))
    count = _NUCLEUS
    while True:
        count = min(count, len(weights))
        least = np.partition(weights, len(weights) - count)[len(weights) - count]
        among = np.flatnonzero(weights >= least)
        ids = among[np.argsort(-weights[among], kind="stable")]
        enough = int(weights[ids].cumsum().searchsorted(top_p)) + 1
        if enough <= len(ids) or count == len(weights):
            return ids[:enough]
        count *= 8


class TextStream:
    """The text of an answer, given out as its tokens come. What was given is never taken back.

    Held back are characters that are not whole, text that may be the beginning of a stop string, and white space,
    which counts only between words: an answer neither begins nor ends with it. Control tokens have no text.
    """

    def __init__(self, tokenizer: PromptTokenizer, stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._tokenizer, self._stop = tokenizer, [text for text in stop if text]
        self._ids: list[int] = []
        self._start = self._read = 0
        self._waiting = ""
        self._begun = False

    def add(self, token: int) -> str:
        """The text that is certain now, often none. ``stopped`` turns true with the first stop string."""
        if self.stopped or token in self._tokenizer.control_ids:
            return ""
        self._ids.append(token)
        self._waiting += self._whole_characters()
        ends = [at for text in self._stop if (at := self._waiting.find(text)) >= 0]
        if ends:
            self.stopped = True
            return self._give(min(ends), last=True)
        return self._give(len(self._waiting) - self._held())

    def finish(self) -> str:
        """The rest of the text, without a last character of which a part is missing."""
        if self.stopped:
            return ""
        self.stopped = True
        self._waiting += self._new_text().rstrip(_BROKEN)
        return self._give(len(self._waiting), last=True)

    def _new_text(self) -> str:
        """The text of the tokens not read yet, decoded behind those before, as tokenizers need it for blanks."""
        before = self._tokenizer.decode(self._ids[self._start : self._read])
        return self._tokenizer.decode(self._ids[self._start :])[len(before) :]

    def _whole_characters(self) -> str:
        text = self._new_text()
        if not text or text.endswith(_BROKEN):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text

    def _held(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._waiting)), longest, -1):
                if self._waiting.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _give(self, end: int, *, last: bool = False) -> str:
        """Text up to ``end`` without the white space at its end, which waits with the rest."""
        given = self._waiting[:end].rstrip()
        self._waiting = "" if last else self._waiting[len(given) :]
        if not self._begun:
            given = given.lstrip()
        self._begun = self._begun or bool(given)
        return given


def end_ids(tokenizer: PromptTokenizer, family: Family, named: int | Iterable[int] | None) -> frozenset[int]:
    """Tokens behind which an answer is over: the family's that the tokenizer has, and those that a model names."""
    own = {token for text in family.end if text in tokenizer for token in tokenizer.encode(Control(text))}
    return frozenset(own | ({named} if isinstance(named, int) else set(named or ())))
