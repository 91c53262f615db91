"""How the model does on the held-out train questions, as the product asks it."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rag.embedded_model.lists import ListSource
from rag.embedded_model.passages import Passage, Question
from rag.embedded_model.teacher import unit
from rag.encoders import has_bfloat16
from rag.language_model import LanguageModel
from rag.reranking import prompts
from rag.reranking.attention import AttentionReranker
from rag.reranking.given import Passage as GivenPassage
from rag.reranking.given import as_given, place_of
from rag.reranking.heads import HeadSet, write
from rag.runtime.families import Family
from rag.runtime.meter import Meter
from rag.runtime.tokens import PromptTokenizer
from rag.values import Query

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEPTH = 20
PASSAGE_TOKENS = 90
"""Of a passage, so that DEPTH fit the context."""
LETTERS = 8


def evaluate(
    model: PreTrainedModel,
    tokenizer: PromptTokenizer,
    family: Family,
    source: ListSource,
    heads: Sequence[tuple[int, int]],
    limit: int = 0,
) -> dict[str, float]:
    """nDCG@10 of BM25, of the heads' attention and of both over BM25's best DEPTH; accuracy of pairs and letters.

    ``limit`` takes the first so many held-out questions, 0 all. Empty where no corpus has questions.
    """
    import torch

    questions = source.dev()[: limit or None]
    if not questions:
        return {}
    device = str(next(model.parameters()).device)
    copied: Any = copy.deepcopy(model)
    copied.eval().to(torch.bfloat16 if has_bfloat16(device) else torch.float32)
    reader = LanguageModel.wrap(copied, tokenizer, family, "embedded")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heads.toml"
        write(path, HeadSet("taught", tuple(heads), "embedded"))
        reranker = AttentionReranker(reader, heads=str(path), depth=DEPTH, passage_tokens=PASSAGE_TOKENS)
        found = [_reranked(reranker, source, at, question) for at, question in questions]
    figures = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    figures |= _labels(reader, source, questions)
    return {name: round(value, 4) for name, value in figures.items()}


def _reranked(reranker: AttentionReranker, source: ListSource, at: int, question: Question) -> dict[str, float]:
    """nDCG@10 of each order for one question. Both scores are put between 0 and 1 before they are added.

    The passages are shown in a random order: heads that prefer a place must not profit from BM25's order.
    """
    best = source.near[at].best(question.text, DEPTH)
    Random(question.id).shuffle(best)  # noqa: S311
    places = [place for place, _ in best]
    passages = [source.corpora[at].passages[place] for place in places]
    ranking = reranker.rerank(Query(question.text, question.id), as_given(_given(passages), ranked=True))
    attention = {place_of(hit): hit.score for hit in ranking}
    bm25 = unit([score for _, score in best])
    heads = unit([attention[i] for i in range(len(places))])
    orders = {"bm25": bm25, "heads": heads, "bm25+heads": bm25 + heads, "bm25+2heads": bm25 + 2 * heads}
    relevant = set(question.relevant)
    return {f"ndcg@10 {name}": ndcg(places, values, relevant) for name, values in orders.items()}


def ndcg(places: Sequence[int], values: Sequence[float] | NDArray[np.float64], relevant: set[int]) -> float:
    """nDCG@10 with binary gains; equal values are ordered by place."""
    order = sorted(range(len(places)), key=lambda i: (-values[i], places[i]))[:10]
    gained = sum(1 / math.log2(rank + 2) for rank, i in enumerate(order) if places[i] in relevant)
    return gained / sum(1 / math.log2(rank + 2) for rank in range(min(10, len(relevant))))


def _labels(reader: LanguageModel, source: ListSource, questions: Sequence[tuple[int, Question]]) -> dict[str, float]:
    """How often the relevant passage is preferred to a hard negative, in both orders, and found by its letter."""
    random = Random(0)  # noqa: S311
    pairs, both, letters = [], [], []
    for at, question in questions:
        passages = source.corpora[at].passages
        relevant = question.relevant[0]
        others = source.negatives(at, question.text, question.relevant, random, LETTERS - 1)
        hard = next(place for place, _ in source.near[at].best(question.text, 50) if place not in question.relevant)
        pair = prompts.pairwise(reader, question.text)
        a, b = _ids(reader, [passages[relevant], passages[hard]], pair)
        scores = reader.labels([pair.write([a, b]), pair.write([b, a])], pair.labels, Meter())
        first, second = scores[0][0] > scores[0][1], scores[1][1] > scores[1][0]
        pairs += [first, second]
        both.append(first and second)
        shown = [relevant, *others]
        random.shuffle(shown)
        form = prompts.listwise(reader, question.text, len(shown))
        written = form.write(_ids(reader, [passages[place] for place in shown], form))
        letters.append(int(reader.labels([written], form.labels, Meter())[0].argmax()) == shown.index(relevant))
    found: Mapping[str, Sequence[bool]] = {"pairs": pairs, "pairs both orders": both, "letters of 8": letters}
    return {name: float(np.mean(values)) for name, values in found.items()}


def _ids(reader: LanguageModel, passages: Sequence[Passage], form: prompts.Form) -> list[list[int]]:
    found = reader.tokenizer.encode_many([form.blank + each.shown for each in passages])
    return [ids[:PASSAGE_TOKENS] for ids in found]


def _given(passages: Sequence[Passage]) -> list[GivenPassage]:
    return [GivenPassage(each.text, each.title) for each in passages]
