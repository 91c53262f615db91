"""Topics as tensors: passages, each alone or all in a row, and behind them queries that do not see each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING

from rag.embedded_model.batches import PAD
from rag.embedded_model.examples import ExampleWriter
from rag.embedded_model.teacher import OUT
from rag.embedded_model.topics import Topic
from rag.reranking.icr import CALIBRATION, document_ids

if TYPE_CHECKING:
    import torch

SHARED, NOBODY = -1, -2
"""In ``asked``: of a token that every query sees, of padding."""


@dataclass(frozen=True, slots=True)
class TopicBatch:
    """G topics of P passages in S sequences of T tokens; M tokens of at most N queries behind them. D: the teacher's.

    ids, positions  (G, S, T) int64; every sequence begins with the prompt's first words
    seen       (G, S*T) bool, tokens that queries see: padding and repeated beginnings are not
    inside     (G, S*T, P) float, 1 where a token belongs to a passage
    query_ids, query_positions  (G, M) int64
    asked      (G, M) int64, the query of a token, SHARED or NOBODY
    wanted     (G, N, P) float, shares of the attention, OUT where a passage is not compared, 0 where there is no query
    present    (G, N) bool, True where there is a query;  taught (G, N) bool, those that the teacher has read
    passage_vectors, query_vectors  (G, P, D), (G, N, D) float
    """

    ids: torch.Tensor
    positions: torch.Tensor
    seen: torch.Tensor
    inside: torch.Tensor
    query_ids: torch.Tensor
    query_positions: torch.Tensor
    asked: torch.Tensor
    wanted: torch.Tensor
    present: torch.Tensor
    taught: torch.Tensor
    passage_vectors: torch.Tensor
    query_vectors: torch.Tensor

    @property
    def tokens(self) -> int:
        return int(self.seen.sum()) + int((self.asked != NOBODY).sum())


def topic_batch(
    topics: Sequence[Topic], writer: ExampleWriter, longest: int, *, joint: bool, device: str = "cpu"
) -> TopicBatch:
    """Passages of at most ``longest`` tokens; ``joint``: in one sequence and with numbers, as in a prompt."""
    import torch

    lead = writer.lead()
    passages = [_sequences(topic, writer, longest, joint=joint) for topic in topics]
    queries = [_queries(topic, writer) for topic in topics]
    count = max(len(topic.texts) for topic in topics)
    most = max(len(asked) for _, asked in queries)
    sequences = len(passages[0])
    length = len(lead) + max(sum(map(len, sequence)) for topic in passages for sequence in topic)
    width = max(len(shared) + sum(map(len, asked)) for shared, asked in queries)
    dimension = topics[0].passage_vectors.shape[1]
    ids = torch.full((len(topics), sequences, length), PAD)
    positions = torch.zeros(ids.shape, dtype=torch.long)
    seen = torch.zeros(ids.shape, dtype=torch.bool)
    inside = torch.zeros(*ids.shape, count)
    query_ids = torch.full((len(topics), width), PAD)
    query_positions = torch.zeros(query_ids.shape, dtype=torch.long)
    asked_by = torch.full(query_ids.shape, NOBODY)
    wanted = torch.zeros(len(topics), most, count)
    present, taught = torch.zeros(2, len(topics), most, dtype=torch.bool)
    passage_vectors = torch.zeros(len(topics), count, dimension)
    query_vectors = torch.zeros(len(topics), most, dimension)
    for at, topic in enumerate(topics):
        place, passage = len(lead), 0
        for row, sequence in enumerate(passages[at]):
            flat = [*lead, *(token for part in sequence for token in part)]
            ids[at, row, : len(flat)] = torch.tensor(flat)
            positions[at, row, : len(lead)] = torch.arange(len(lead))
            positions[at, row, len(lead) :] = place + torch.arange(length - len(lead))
            seen[at, row, (len(lead) if row else 0) : len(flat)] = True
            ends = list(accumulate(map(len, sequence), initial=len(lead)))
            for start, end in zip(ends[::2], ends[1::2], strict=False):  # a passage, a separator, a passage ...
                inside[at, row, start:end, passage] = 1
                passage += 1
            place += len(flat) - len(lead)
        shared, asked = queries[at]
        query_ids[at, : len(shared)] = torch.tensor(shared)
        query_positions[at, : len(shared)] = place + torch.arange(len(shared))
        asked_by[at, : len(shared)] = SHARED
        end = len(shared)
        for number, tokens in enumerate(asked):
            own = slice(end, end + len(tokens))
            query_ids[at, own] = torch.tensor(tokens)
            query_positions[at, own] = place + len(shared) + torch.arange(len(tokens))
            asked_by[at, own] = number
            end += len(tokens)
        known = len(topic.queries)
        wanted[at, :, len(topic.texts) :] = OUT
        wanted[at, :known, : len(topic.texts)] = torch.from_numpy(topic.wanted)
        wanted[at, known : len(asked), : len(topic.texts)] = 1 / len(topic.texts)
        present[at, : len(asked)] = taught[at, :known] = True
        passage_vectors[at, : len(topic.texts)] = torch.from_numpy(topic.passage_vectors)
        query_vectors[at, :known] = torch.from_numpy(topic.query_vectors)
    parts = (ids, positions, seen.flatten(1), inside.flatten(1, 2), query_ids, query_positions, asked_by, wanted)
    vectors = (passage_vectors, query_vectors)
    return TopicBatch(*(each.to(device) for each in (*parts, present, taught, *vectors)))


def _sequences(topic: Topic, writer: ExampleWriter, longest: int, *, joint: bool) -> list[list[list[int]]]:
    """Each sequence as its passages and the separators behind them."""
    separator = writer.separator()
    tokenizer = writer.tokenizer
    if joint:
        numbered = [document_ids(tokenizer, text, place, longest) for place, text in enumerate(topic.texts, start=1)]
        return [[part for ids in numbered for part in (list(ids), separator)]]
    return [[list(ids[:longest]), separator] for ids in tokenizer.encode_many(topic.texts)]


def _queries(topic: Topic, writer: ExampleWriter) -> tuple[list[int], list[list[int]]]:
    """What all prompts have in common before the query, and the rest of each."""
    asked = [*topic.queries, *([CALIBRATION] if topic.empty else [])]
    whole = [writer.query(query) for query in asked]
    empty = writer.query(CALIBRATION)
    shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(writer.query("."), empty, strict=False))))
    return list(empty[:shared]), [list(ids[shared:]) for ids in whole]
