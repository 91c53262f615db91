"""Finds the heads that tell relevant passages: QRHead's criterion and CoRe's, over questions with known answers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rag.errors import InvalidInput
from rag.reranking.heads import HeadSet
from rag.reranking.icr import LATE, IcrTemplate, document_ids, head_scores, icr_prompt
from rag.runtime.meter import Meter
from rag.runtime.reader import Reader

Criterion = Literal["qrhead", "core"]
SIZES = {"qrhead": 16, "core": 8}
"""Heads of a published set."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question, passages, and which of them (indices) are relevant."""

    query: str
    passages: Sequence[str]
    relevant: frozenset[int]


def detect(
    model: Reader,
    examples: Iterable[Example],
    *,
    criterion: Criterion = "qrhead",
    size: int = 0,
    temperature: float = 0.1,
    passage_tokens: int = 512,
    seed: int = 42,
    progress: Callable[[int], None] | None = None,
) -> tuple[HeadSet, NDArray[np.float64]]:
    """The best heads and all heads' values (layers, heads), the mean over examples. Equal values: lower layer first.

    qrhead  nDCG@10 of the ranking each head alone gives, calibrated and filtered (QRHead, EMNLP 2025)
    core    softmax over the passages of the head's uncalibrated mass / temperature, at the relevant ones (CoRe,
            arXiv 2510.02219; its own prompts leave the label out of the span and use 0.001 for Mistral and Granite)
    Passages are shuffled by ``seed``. An example that does not fit the model's context, or without a relevant
    passage, is left out. Raises InvalidInput where none is left.
    """
    shuffle = random.Random(seed)  # noqa: S311
    strings = model.family.attention
    template = IcrTemplate(strings.prefix, strings.separator, strings.suffix, LATE["IE"])
    total, used = np.zeros(model.shape), 0
    for number, example in enumerate(examples, start=1):
        passages = list(enumerate(example.passages))
        shuffle.shuffle(passages)
        relevant = [at for at, (index, _) in enumerate(passages) if index in example.relevant]
        documents = [
            document_ids(model.tokenizer, text.strip(), at, passage_tokens)
            for at, (_, text) in enumerate(passages, start=1)
        ]
        prompt = icr_prompt(model.tokenizer, template, example.query, documents, range(len(documents)))
        needed = len(prompt.prefix.ids) + max(len(prompt.query.ids), len(prompt.calibration.ids))
        if relevant and needed <= model.context:
            suffixes = [prompt.query, prompt.calibration][: 2 if criterion == "qrhead" else 1]
            attention = model.head_attention(prompt.prefix, suffixes, Meter())
            if criterion == "qrhead":
                total += _ndcg(head_scores(attention[0], attention[1], prompt.spans), relevant)
            else:
                mass = np.array([attention[0][:, :, a:b].sum(-1) for a, b in prompt.spans], dtype=np.float64)
                total += _contrast(mass / temperature, relevant)
            used += 1
        if progress:
            progress(number)
    if not used:
        raise InvalidInput("no example has a relevant passage and fits the model's context; give shorter lists")
    values = total / used
    best = sorted(np.ndindex(*values.shape), key=lambda at: (-values[at], at))[: size or SIZES[criterion]]
    source = f"{criterion} criterion over {used} examples"
    return HeadSet(criterion, tuple((i, h) for i, h in best), model.name, source, model.fingerprint), values


def _ndcg(scores: NDArray[np.float64], relevant: Sequence[int]) -> NDArray[np.float64]:
    """(layers, heads) nDCG@10 with binary gains of scores (documents, layers, heads); ties by place."""
    ranks = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0, kind="stable")[list(relevant)]
    gains = np.where(ranks < 10, 1.0 / np.log2(ranks + 2.0), 0.0).sum(axis=0)
    ideal = sum(1.0 / math.log2(rank + 2) for rank in range(min(10, len(relevant))))
    found: NDArray[np.float64] = gains / ideal
    return found


def _contrast(mass: NDArray[np.float64], relevant: Sequence[int]) -> NDArray[np.float64]:
    """(layers, heads): the relevant passages' share of a softmax over (documents, layers, heads)."""
    weights = np.exp(mass - mass.max(axis=0))
    share: NDArray[np.float64] = (weights / weights.sum(axis=0))[list(relevant)].sum(axis=0)
    return share
