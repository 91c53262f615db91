"""Rankings made of texts, and readers that follow a script, for tests of rerankers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Role
from rag.runtime.reader import Array
from rag.values import Chunk, Hit, Ranking, ScoreKind, StageReport

Script = Callable[[list[str]], Sequence[float]]


def ranking_of(*texts: str) -> Ranking:
    """One hit a text, in this order; the chunk's document is its number."""
    hits = [Hit(Chunk(f"{i:03d}#0", f"{i:03d}", text, 0, len(text)), 1.0 - i / 1000) for i, text in enumerate(texts)]
    return Ranking(tuple(hits), ScoreKind.COSINE, StageReport("dense", n_out=len(hits)))


def numbers(ranking: Ranking) -> list[int]:
    """The numbers of the texts, best first."""
    return [int(hit.chunk.doc_id) for hit in ranking]


def passages_of(prompt: Prompt, reader: LexicalReader) -> list[str]:
    return [reader.tokenizer.decode(s.ids).strip() for s in prompt.segments if s.role is Role.PASSAGE]


class ScriptedReader(LexicalReader):
    """Label scores by a script over the passages of a prompt, in the order shown; it counts as any reader does.

    seconds  what each call takes
    """

    def __init__(self, script: Script, *, seconds: float = 0.0) -> None:
        self.script, self.seconds = script, seconds
        self.shown: list[list[str]] = []

    def labels(self, prompts: Sequence[Prompt], labels: Sequence[int], meter: Meter) -> Array:
        super().labels(prompts, labels, meter)
        time.sleep(self.seconds)
        rows = []
        for prompt in prompts:
            shown = passages_of(prompt, self)
            self.shown.append(shown)
            scores = list(self.script(shown))
            rows.append([*scores, *[-99.0] * (len(labels) - len(scores))])
        return np.array(rows, dtype=np.float32).reshape(len(prompts), len(labels))


def by_number(shown: list[str]) -> list[float]:
    """A perfect model: the passage with the larger number is more relevant, by how much it is larger."""
    return [float(text.split()[-1]) / 10 for text in shown]


def first_shown(shown: list[str]) -> list[float]:
    """A model that sees places only: always the first passage."""
    return [1.0, *[0.0] * (len(shown) - 1)]


def not_a_number(shown: list[str]) -> list[float]:
    return [float("nan")] * len(shown)
