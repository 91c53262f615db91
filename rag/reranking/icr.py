"""In-context re-ranking: prompt, spans and scores, as published (ICR, OSU-NLP-Group/In-Context-Reranking 9117e9f).

Pure functions over token ids and attention sums; the model is asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.runtime.prompt import Prompt, Role, Segment
from rag.runtime.reader import Reader
from rag.runtime.tokens import Control, Ids, PromptTokenizer

Array = NDArray[np.float32]
Span = tuple[int, int]

LATE = {
    "QA": "Please answer the following question based on the information in the paragraphs above.",
    "IE": "Please find information that are relevant to the following query in the paragraphs above.",
}
"""The instruction behind the documents: QA for questions, IE for every other query."""
INTRO = " Here are some paragraphs:"
QUERY_LABEL = "Query:"
CALIBRATION = "N/A"
"""The query without content, whose attention is subtracted."""


@dataclass(frozen=True, slots=True)
class IcrTemplate:
    """Every string of the prompt. ``late`` is one of LATE's, or another of a test's."""

    prefix: str
    separator: str
    suffix: str
    late: str
    intro: str = INTRO
    query_label: str = QUERY_LABEL
    calibration: str = CALIBRATION


@dataclass(frozen=True, slots=True)
class IcrPrompt:
    """A prompt in parts.

    prefix   everything up to the query span;  spans  [start, end) of each document in it, label included, in the
             order of the documents that were given;  query, calibration  what follows for the query and for N/A
    """

    prefix: Prompt
    spans: tuple[Span, ...]
    query: Prompt
    calibration: Prompt


def icr_prompt(
    tokenizer: PromptTokenizer, template: IcrTemplate, query: str, documents: Sequence[Ids], order: Sequence[int]
) -> IcrPrompt:
    """The prompt with the documents in ``order`` (indices into ``documents``), labelled [1], [2], ... in that order.

    documents  ids that ``document_ids`` made for their places
    Documents and query are inert text; control strings count in the template's prefix and suffix only.
    """
    lead = lead_ids(tokenizer, template)
    separator = tokenizer.encode(template.separator)
    segments = [Segment(tuple(lead))]
    at, spans = len(lead), {}
    for index in order:
        ids = documents[index]
        spans[index] = (at, at + len(ids))
        segments += [Segment(tuple(ids), Role.PASSAGE), Segment(tuple(separator))]
        at += len(ids) + len(separator)
    return IcrPrompt(
        Prompt(tuple(segments)),
        tuple(spans[index] for index in range(len(documents))),
        Prompt((Segment(tuple(_query_ids(tokenizer, template, query.strip())), Role.QUERY),)),
        Prompt((Segment(tuple(_query_ids(tokenizer, template, template.calibration)), Role.QUERY),)),
    )


def lead_ids(tokenizer: PromptTokenizer, template: IcrTemplate) -> Ids:
    """What stands before the first document."""
    return tokenizer.start(Control(template.prefix), template.intro + template.separator)


def lead_of(reader: Reader) -> Ids:
    """What stands before the first document in every prompt for this model."""
    strings = reader.family.attention
    return lead_ids(reader.tokenizer, IcrTemplate(strings.prefix, strings.separator, strings.suffix, LATE["IE"]))


def document_ids(tokenizer: PromptTokenizer, text: str, place: int | None, longest: int = 0) -> Ids:
    """``[place] text`` as ids, cut at ``longest`` tokens (0: whole); ``place`` counts from 1, None is no label."""
    ids = tokenizer.encode(text if place is None else f"[{place}] {text}")
    return ids[:longest] if longest else ids


def _query_ids(tokenizer: PromptTokenizer, template: IcrTemplate, query: str) -> Ids:
    head = f"{template.late}{template.separator}{template.query_label} "
    return tokenizer.encode(head, query, Control(template.suffix))


def contributions(attention: Array, calibration: Array, span: Span) -> Array:
    """d_t of one document: (tokens,) float32, 0 for low outliers, so that its sum is the document's score.

    attention, calibration  A_t of the query and of N/A over the prefix, summed over layers and heads
    Kept is d_t > mean - 2 std, std with n - 1; for one token std is not defined and nothing is kept (as published).
    """
    d = attention[span[0] : span[1]] - calibration[span[0] : span[1]]
    if len(d) < 2:
        return np.zeros_like(d)
    kept: Array = np.where(d > d.mean() - 2.0 * d.std(ddof=1), d, np.float32(0.0))
    return kept


def icr_scores(attention: Array, calibration: Array, spans: Sequence[Span]) -> list[float]:
    """One score a document: the sum of its contributions."""
    return [float(contributions(attention, calibration, span).sum()) for span in spans]


def head_scores(attention: Array, calibration: Array, spans: Sequence[Span]) -> NDArray[np.float64]:
    """(documents, layers, heads): the score each head alone would give, with its own filter.

    attention, calibration  (layers, heads, tokens). They do not add up to ``icr_scores``: filtering is not linear.
    """
    layers, heads, _ = attention.shape
    scores = [
        [[contributions(attention[i, h], calibration[i, h], span).sum() for h in range(heads)] for i in range(layers)]
        for span in spans
    ]
    return np.array(scores, dtype=np.float64)
