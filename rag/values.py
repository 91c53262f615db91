"""The values that travel through a pipeline. All are frozen; the only sorting happens in Ranking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import overload

from indexes.corpus import Chunk, Document, clean_text
from indexes.filters import Filter
from rag.choice import Choice

__all__ = [
    "Answer",
    "Chunk",
    "Citation",
    "Context",
    "Document",
    "Hit",
    "Query",
    "Ranking",
    "ScoreKind",
    "StageReport",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class Query:
    """A question. ``filter`` limits every retriever to documents whose metadata match.

    NUL and lone surrogates in the text become U+FFFD, as they do in documents: no tokenizer can read them.
    """

    text: str
    id: str = ""
    filter: Filter | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", clean_text(self.text))


class ScoreKind(StrEnum):
    """What a raw score is. Scores of different kinds are never compared."""

    BM25 = "bm25"
    COSINE = "cosine"
    RRF = "rrf"
    WEIGHTED_SUM = "weighted_sum"
    SIGMOID_LOGIT = "sigmoid_logit"
    ATTENTION = "attention"
    RANK = "rank"
    WINS = "wins"
    LIKELIHOOD = "likelihood"


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did.

    seconds   wall time of this stage alone, without the stages that feed it
    n_in      hits that entered, None for a first-stage retriever; n_out left
    tokens    tokens a model had to compute for this request, 0 where none ran
    passes    forward passes of a language model; decoded  tokens it wrote; peak_mb  key/value states it held
    degraded  why the stage gave less than was asked for, "" where it did not
    notes     what else a reader should know, for example how many passages were cut
    first_token  seconds until a language model here had the first token of an answer, 0 where none wrote one
    cache_mode  how cached states of passages were reused, "" where they were not; with +int8 or another scheme behind
                where storage had rounded them: never the model's own answer, whatever the mode
    reused  tokens that came from there
    recomputed  share of the token states that this mode computed all the same
    """

    stage: str
    seconds: float = 0.0
    n_in: int | None = None
    n_out: int = 0
    tokens: int = 0
    degraded: str = ""
    passes: int = 0
    decoded: int = 0
    peak_mb: float = 0.0
    notes: tuple[str, ...] = ()
    cache_mode: str = ""
    reused: int = 0
    recomputed: float = 0.0
    first_token: float = 0.0


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk and its raw score; the Ranking it stands in says what kind of score."""

    chunk: Chunk
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Ranking(Sequence[Hit]):
    """Hits by descending score, ties by ascending chunk id, no chunk twice.

    kind     what the scores are
    bound    the largest score this stage can give (RRF: the sum of w/(c+1)), 1.0 where scores end there
    inputs   the rankings this one was made from: the provenance that ``explain`` reads
    Raises ValueError for a chunk that occurs twice or a score that is not a number.
    """

    hits: tuple[Hit, ...]
    kind: ScoreKind
    report: StageReport
    inputs: tuple[Ranking, ...] = ()
    bound: float = 1.0

    def __post_init__(self) -> None:
        hits = tuple(sorted(self.hits, key=lambda hit: (-hit.score, hit.chunk.id)))
        if len({hit.chunk.id for hit in hits}) != len(hits):
            raise ValueError(f"stage {self.report.stage!r} ranked one chunk twice")
        if any(math.isnan(hit.score) for hit in hits):
            raise ValueError(f"stage {self.report.stage!r} gave a score that is not a number")
        object.__setattr__(self, "hits", hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def relevance(self, hit: Hit) -> float:
        """The hit's score mapped into [0, 1], monotone, and independent of the other hits.

        It can be thresholded. It is a probability only where the kind is ``sigmoid_logit`` of a calibrated model.
        """
        match self.kind:
            case ScoreKind.BM25:
                return hit.score / (hit.score + 10.0)  # 10: about the median top score of short questions
            case ScoreKind.SIGMOID_LOGIT | ScoreKind.ATTENTION:  # attention: 0.5 is what "N/A" gets
                return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, hit.score))))
            case ScoreKind.LIKELIHOOD:
                return math.exp(min(0.0, hit.score))
            case _:
                return max(0.0, min(1.0, hit.score / self.bound))

    def stages(self) -> Iterator[Ranking]:
        """This ranking and all it was made from, sources first."""
        for ranking in self.inputs:
            yield from ranking.stages()
        yield self


@dataclass(frozen=True, slots=True)
class Context:
    """The chunks that the answer is made from, in prompt order; citation [n] means ``hits[n - 1]``.

    tokens  what the prompt takes without the question: chunks with numbering and separators, and the fixed words
            around them where a model is asked; counted by the generator's tokenizer
    budget  the most that this was allowed to be
    choice  why these and no others, where the selector says so
    """

    hits: tuple[Hit, ...]
    tokens: int
    budget: int
    ranking: Ranking
    report: StageReport
    choice: Choice | None = None

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        return tuple(hit.chunk for hit in self.hits)


@dataclass(frozen=True, slots=True)
class Citation:
    """A place in the answer's sources: ``number`` counts from 1 in prompt order.

    start, end  code point offsets of the quoted text in the document, None where the whole chunk is meant
    """

    number: int
    chunk_id: str
    doc_id: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by the generator's tokenizer: read from the prompt, and written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its sources.

    found  False where no source supports an answer; ``text`` then says so and cites nothing
    cut    True where a limit of tokens or time ended it
    """

    text: str
    found: bool
    citations: tuple[Citation, ...]
    context: Context
    usage: Usage
    generator: str
    report: StageReport
    notes: tuple[str, ...] = field(default=())
    cut: bool = False
