"""Relevance judgements and runs in TREC's and BEIR's file forms: pure parsing and writing."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rag.errors import InvalidInput

BEIR_HEADER = ["query-id", "corpus-id", "score"]


class Scored(NamedTuple):
    """A document of a run with its score."""

    doc_id: str
    score: float


Qrels = Mapping[str, Mapping[str, int]]
"""Query id to document id to grade."""

Run = Mapping[str, Sequence[Scored]]
"""Query id to its documents, best first. The order counts, not the scores: ties have been settled."""


def parse_qrels(lines: Iterable[str], where: str) -> dict[str, dict[str, int]]:
    """Judgements in TREC form (``qid iter docid grade``) or BEIR's (three columns by tab, with a header or without).

    Raises InvalidInput with ``where`` and the line's number for a malformed line, for a pair that is judged twice
    with different grades, and where there is no judgement at all.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _numbered(lines):
        if line.split("\t") == BEIR_HEADER:
            continue
        query_id, doc_id, grade = _judgement(line, f"{where}, line {number}")
        if qrels.setdefault(query_id, {}).setdefault(doc_id, grade) != grade:
            raise InvalidInput(f"{where}, line {number}: {query_id!r} {doc_id!r} is judged twice, with two grades")
    if not qrels:
        raise InvalidInput(f"{where} holds no judgement; lines are 'qid iter docid grade', or BEIR's three columns")
    return qrels


def _judgement(line: str, place: str) -> tuple[str, str, int]:
    columns = line.split("\t")
    if len(columns) != 3:
        columns = line.split()
        if len(columns) != 4:
            raise InvalidInput(
                f"{place}: {line[:80]!r} is no judgement; write 'qid iter docid grade', or three columns by tab"
            )
        del columns[1]
    try:
        return columns[0].strip(), columns[1].strip(), int(columns[2])
    except ValueError:
        raise InvalidInput(f"{place}: the grade {columns[2]!r} is no whole number") from None


def parse_run(lines: Iterable[str], where: str, *, ties_as_listed: bool = False) -> dict[str, tuple[Scored, ...]]:
    """A TREC run (``qid Q0 docid rank score tag``), each query's documents by falling score.

    Ranks are not read: as for trec_eval, the scores decide, compared in single precision, ties by falling
    document id, or with ``ties_as_listed`` by line. Raises InvalidInput with the line's number for a malformed line
    or a document that comes twice.
    """
    found: dict[str, dict[str, float]] = {}
    for number, line in _numbered(lines):
        columns = line.split()
        if len(columns) != 6:
            raise InvalidInput(
                f"{where}, line {number}: {len(columns)} columns instead of 6; write 'qid Q0 docid rank score tag'"
            )
        query_id, doc_id, score = columns[0], columns[2], _score(columns[4], f"{where}, line {number}")
        documents = found.setdefault(query_id, {})
        if doc_id in documents:
            raise InvalidInput(
                f"{where}, line {number}: document {doc_id!r} comes twice for query {query_id!r}; keep its best line"
            )
        documents[doc_id] = score
    return {
        query_id: _by_score(documents.items() if ties_as_listed else sorted(documents.items(), reverse=True))
        for query_id, documents in found.items()
    }


def _score(text: str, place: str) -> float:
    try:
        score = float(text)
    except ValueError:
        raise InvalidInput(f"{place}: the score {text!r} is no number") from None
    if not math.isfinite(score):
        raise InvalidInput(f"{place}: the score {text!r} is not finite")
    return score


def _by_score(documents: Iterable[tuple[str, float]]) -> tuple[Scored, ...]:
    return tuple(Scored(*pair) for pair in sorted(documents, key=lambda pair: -single(pair[1])))


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix("\ufeff").rstrip("\r\n")
        if text.strip():
            yield number, text


def format_run(run: Run, tag: str) -> Iterator[str]:
    """Lines of a TREC run with true ranks from 1.

    A reader sorts by score with a tie rule of its own, so scores are made to fall strictly: one that does not lie
    below the score before it is written as the next smaller number in single precision, which is what trec_eval
    compares. Every other score stays what it is, rounded to that precision.
    Raises InvalidInput for an id or tag with white space, which no reader could take apart.
    """
    _checked(tag, "the tag")
    for query_id, documents in run.items():
        _checked(query_id, "the query id")
        below = math.inf
        for rank, (doc_id, score) in enumerate(documents, start=1):
            below = min(single(score), _next_below(below))
            yield f"{query_id} Q0 {_checked(doc_id, 'the document id')} {rank} {below:.9g} {tag}\n"


def _checked(name: str, what: str) -> str:
    if not name or name.split() != [name]:
        raise InvalidInput(
            f"{what} {name!r} is empty or holds white space, which a TREC run has no way to write; rename it"
        )
    return name


def single(score: float) -> float:
    """The score rounded to single precision, huge ones to the largest finite number."""
    return float(struct.unpack("<f", struct.pack("<f", max(-_LARGEST, min(_LARGEST, score))))[0])


_LARGEST = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


def _next_below(score: float) -> float:
    """The next smaller single precision number; any number where ``score`` is infinite."""
    if math.isinf(score):
        return score
    if score == 0.0:
        return -float(struct.unpack("<f", b"\x01\x00\x00\x00")[0])
    bits = struct.unpack("<i", struct.pack("<f", score))[0]
    return float(struct.unpack("<f", struct.pack("<i", bits - 1 if score > 0 else bits + 1))[0])
