"""How much each cache mode changes answers and rankings of a model, beside the full prefill of the same prompts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rag.errors import InvalidInput
from rag.generation.prompt import written
from rag.kv.divergence import agreements, divergences, kendall_tau, losses, top_overlap
from rag.kv.library import ChunkLibrary
from rag.kv.memory import MemoryStore
from rag.kv.modes import Mode, parse_mode
from rag.kv.quantize import Scheme
from rag.kv.reader import CachedReader
from rag.kv.stored import StoredReader
from rag.kv.verdicts import STORED, Verdict
from rag.reranking.attention import AttentionReranker
from rag.reranking.icr import lead_of
from rag.runtime.batch_decode import BatchDecode
from rag.runtime.decoding import Sampler, Sampling
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt
from rag.values import Chunk, Context, Hit, Query, Ranking, ScoreKind, StageReport

if TYPE_CHECKING:
    from rag.language_model import LanguageModel

Ids = tuple[int, ...]
MODES = ("independent", "ape", "link-16", "blend-0.15", "craft")
SOURCES = 5
"""Passages of an answer's prompt; a ranking has all of a question's."""
WORDS = 16
"""Of a sentence that stands for a question."""
HELD = 2**30
"""Bytes of states that are kept from one mode to the next."""
Progress = Callable[[int, int], None]
"""(prompts done, prompts in all)"""


@dataclass(frozen=True, slots=True)
class Case:
    """A question and passages that were found for it, the best first."""

    query: Query
    chunks: tuple[Chunk, ...]


@dataclass(slots=True)
class _Sums:
    """What one row has measured so far."""

    kl: list[float] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    nll: list[float] = field(default_factory=list)
    tau: list[float] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)


def made_questions(chunks: Iterable[Chunk], count: int, seed: int = 0) -> list[str]:
    """Up to ``count`` questions about passages drawn at random: a passage's title, or the words its text begins with.

    Each once, in the order of the passages; the same for the same passages and seed (reservoir sampling, Vitter 1985).
    """
    chance, drawn = random.Random(seed), list[tuple[int, str]]()  # noqa: S311 - a sample, no secret
    seen: set[str] = set()
    for chunk in chunks:
        text = _question(chunk)
        if not text or text in seen:
            continue
        seen.add(text)
        at = len(seen) - 1
        if len(drawn) < count:
            drawn.append((at, text))
        elif (place := chance.randrange(len(seen))) < count:
            drawn[place] = (at, text)
    return [text for _, text in sorted(drawn)]


def _question(chunk: Chunk) -> str:
    first = re.split(r"(?<=[.!?。])\s", chunk.text.strip(), maxsplit=1)[0]
    return chunk.title.strip() or " ".join(first.split()[:WORDS])


def calibrate(
    model: LanguageModel,
    cases: Sequence[Case],
    scheme: Scheme,
    *,
    collection: str,
    modes: Sequence[Mode] = tuple(map(parse_mode, MODES)),
    stored: Sequence[Scheme] = ("int8", "int4"),
    answer_tokens: int = 32,
    heads: str = "all",
    progress: Progress = lambda done, total: None,
) -> list[Verdict]:
    """A verdict for each mode over states of a scheme, then STORED for each scheme of ``stored``, in the order given.

    Of each case the full prefill writes the answer of up to ``answer_tokens`` tokens that is likeliest token by token;
    all others are asked for the next token before each of it (teacher forcing). Rankings are those of ICR over the
    case's passages, without labels of their places, which no cached passage has. A case with one passage counts for
    answers only. Raises InvalidInput without cases, ModelNotAvailable, ModelOutOfMemory.
    """
    if not cases:
        raise InvalidInput("there is nothing to measure on: no question found a passage; give --queries FILE")
    library = ChunkLibrary(model, lead_of, MemoryStore(HELD), scheme, narrow=lambda _: True)
    full = CachedReader(library, Mode(kind="full"), labelled=False)
    rows: list[tuple[Scheme, str, CachedReader]] = [
        (scheme, str(mode), CachedReader(library, mode, labelled=False)) for mode in modes
    ]
    rows += [(one, STORED, StoredReader(library, one)) for one in stored]
    sums = [_Sums() for _ in rows]
    done, total = 0, len(cases) * (1 + len(rows))
    progress(done, total)
    for case in cases:
        prompt, answer = _answered(model, case, answer_tokens)
        logits, order = full.continued(prompt, answer, Meter()), _ranked(full, case, heads)
        loss = losses(logits, answer)
        progress(done := done + 1, total)
        for (_, _, reader), found in zip(rows, sums, strict=True):
            other = reader.continued(prompt, answer, Meter())
            found.kl += divergences(logits, other).tolist()
            found.same += agreements(logits, other).tolist()
            found.nll += (losses(other, answer) - loss).tolist()
            if len(order) > 1:
                ranked = _ranked(reader, case, heads)
                found.tau.append(kendall_tau(order, ranked))
                found.overlap.append(top_overlap(order, ranked))
            progress(done := done + 1, total)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return [
        Verdict(
            fingerprint=library.identity,
            scheme=kept,
            mode=name,
            model=model.name,
            dtype=library.fingerprint.scheme,
            date=date,
            collection=collection,
            questions=len(cases),
            positions=len(found.kl),
            kl=_mean(found.kl),
            agreement=_mean(found.same),
            nll=_mean(found.nll),
            tau=_mean(found.tau),
            overlap=_mean(found.overlap),
        )
        for (kept, name, _), found in zip(rows, sums, strict=True)
    ]


def _answered(model: LanguageModel, case: Case, most: int) -> tuple[Prompt, Ids]:
    """The prompt of an answer, and what the model writes behind it."""
    most = min(most, model.context // 4)
    sources = _given(case.chunks[:SOURCES])
    context = Context(sources.hits, 0, 0, sources, sources.report)
    prompt = written(model.tokenizer, model.family, case.query, context, model.context - most).prompt
    meter, ids = Meter(), prompt.ids
    batch = BatchDecode(model, 1)
    tokens = batch.tokens(lambda: model.begin(prompt, meter, most), ids[-1], Sampler(Sampling(0.0)), most, meter)
    return prompt, tuple(tokens)


def _ranked(reader: CachedReader, case: Case, heads: str) -> list[str]:
    """Ids of the case's passages, the best first."""
    found = AttentionReranker(reader, heads=heads, depth=len(case.chunks)).rerank(case.query, _given(case.chunks))
    return [hit.chunk.id for hit in found.hits]


def _given(chunks: Sequence[Chunk]) -> Ranking:
    hits = tuple(Hit(chunk, float(-place)) for place, chunk in enumerate(chunks))
    return Ranking(hits, ScoreKind.RANK, StageReport("given", n_out=len(hits)))


def _mean(numbers: Sequence[float]) -> float:
    """1 for none: no ranking differs where there was none to compare."""
    return sum(numbers) / len(numbers) if numbers else 1.0
