"""Attention reranking (ICR): what attention a question pays to each passage, less what an empty question pays."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from rag.errors import InvalidInput
from rag.protocols import Reranker
from rag.reranking.heads import ALL, foreign, heads_for
from rag.reranking.icr import LATE, Array, IcrPrompt, IcrTemplate, contributions, document_ids, icr_prompt, icr_scores
from rag.reranking.passages import ATTENTION_TOKENS, attention_text
from rag.reranking.stage import reranked
from rag.reranking.windows import link, plan
from rag.runtime.meter import Limits, Meter, OutOfBudget
from rag.runtime.reader import Heads, Reader
from rag.values import Chunk, Query, Ranking, ScoreKind

MAX_QUERY_TOKENS = 512
LABEL_TOKENS = 8
"""Room for the "[12] " in front of a passage, in whatever tokenizer."""


class CalibrationCache:
    """Attention of the question without content, kept by what it was paid to: the list, the model and the heads."""

    def __init__(self, tokens: int = 2**20) -> None:
        self._tokens = tokens
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, Array] = OrderedDict()

    def get(self, key: object) -> Array | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def clear(self) -> None:
        """Forget all: of a deleted text nothing may stay."""
        with self._lock:
            self._kept.clear()

    def put(self, key: object, attention: Array) -> None:
        with self._lock:
            self._kept[key] = attention
            while sum(map(len, self._kept.values())) > self._tokens and len(self._kept) > 1:
                self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Contribution:
    """What each token of a passage, its label included, adds to the passage's score.

    ``tokens`` joined is the text that was read; a token that ends inside a character is empty, the last one has it.
    """

    chunk_id: str
    tokens: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class AttentionReranker(Reranker):
    """ICR over the ``depth`` best (Chen et al., In-Context Re-ranking, ICLR 2025); scores are raw attention sums.

    heads           "all", the name of a published set (QRHead, CoRe), or a head-set file; layers above are not run
    late            IE (find information for a query) or QA (answer a question), the published instructions
    best_last       the best first-stage hit stands last, nearest the question, as in the published runs
    passage_tokens  tokens of a passage that are read, its label included; 0 reads all
    A list longer than the model's context is read in windows that share anchor passages; see ``windows`` for what
    their common scale guarantees. Passages without text are not read and stay behind.
    ``limits.max_prefill_tokens`` shortens the list to what fits before it starts; a deadline ends it between windows.
    """

    model: Reader
    heads: str = ALL
    late: Literal["IE", "QA"] = "IE"
    best_last: bool = True
    depth: int = 100
    passage_tokens: int = ATTENTION_TOKENS
    limits: Limits = Limits()
    cache: CalibrationCache = field(default_factory=CalibrationCache, compare=False)

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        started = time.perf_counter()
        work = _Work(self, query, [hit.chunk for hit in ranking.hits[: self.depth]])
        scores = work.scores()
        return reranked(
            ranking,
            [scores.get(i) for i in range(len(work.chunks))],
            stage="rerank",
            kind=ScoreKind.ATTENTION,
            started=started,
            meter=work.meter,
            degraded=work.degraded,
            notes=tuple(work.notes),
        )

    def contributions(self, query: Query, ranking: Ranking) -> list[Contribution]:
        """Per token of the passages that were read, for highlighting; each adds up to the passage's score there."""
        work = _Work(self, query, [hit.chunk for hit in ranking.hits[: self.depth]])
        found: dict[int, Contribution] = {}
        if work.readable:
            with suppress(OutOfBudget):
                for window in work.windows(work.affordable()):
                    prompt, attention, calibration = work.read(window)
                    for i, span in zip(window, prompt.spans, strict=True):
                        tokens = self.model.tokenizer.pieces(prompt.prefix.ids[span[0] : span[1]])
                        values = contributions(attention, calibration, span)
                        found[i] = Contribution(work.chunks[i].id, tuple(tokens), tuple(map(float, values)))
        return [found[i] for i in sorted(found)]


class _Work:
    """One request."""

    def __init__(self, settings: AttentionReranker, query: Query, chunks: Sequence[Chunk]) -> None:
        self.settings, self.chunks = settings, chunks
        self.model = settings.model
        self.meter = Meter(settings.limits)
        self.degraded = ""
        self.notes: list[str] = []
        self.texts = [attention_text(chunk) for chunk in chunks]
        self.readable = [i for i, text in enumerate(self.texts) if text]
        if self.readable:
            self._prepare(query)

    def _prepare(self, query: Query) -> None:
        tokenizer, family = self.model.tokenizer, self.model.family
        self.heads: Heads | None = heads_for(self.model, self.settings.heads)
        if found_for := foreign(self.model, self.settings.heads):
            self.notes.append(f"the head set {self.settings.heads!r} was found for {found_for}")
        strings = family.attention
        self.template = IcrTemplate(strings.prefix, strings.separator, strings.suffix, LATE[self.settings.late])
        asked = tokenizer.encode(query.text)
        self.query = query.text
        if len(asked) > MAX_QUERY_TOKENS:
            self.query = tokenizer.decode(asked[:MAX_QUERY_TOKENS])
            self.notes.append(f"the query was cut from {len(asked)} to {MAX_QUERY_TOKENS} tokens")
        empty = icr_prompt(tokenizer, self.template, self.query, [], [])
        self.fixed = len(empty.prefix.ids)
        self.ends = (len(empty.query.ids), len(empty.calibration.ids))
        room = self.model.context - self.fixed - max(self.ends)
        if room < 4 * LABEL_TOKENS:
            raise InvalidInput(
                f"the query and the instruction take {self.model.context - room} of the {self.model.context} tokens "
                f"that {self.model.name!r} reads; shorten the query"
            )
        longest = room - LABEL_TOKENS
        self.longest = min(self.settings.passage_tokens or longest, longest)
        self.ids = tokenizer.encode_many([self.texts[i] for i in self.readable])
        lengths = [len(ids) for ids in self.ids]
        self.separator = separator = len(tokenizer.encode(self.template.separator))
        label = LABEL_TOKENS if self.model.labelled else 0
        self.costs = [min(n + label, self.longest) + separator for n in lengths]
        self.room = room
        if cut := sum(n + label > self.longest for n in lengths):
            self.notes.append(f"{cut} passages may be cut at {self.longest} tokens")

    def windows(self, count: int) -> list[tuple[int, ...]]:
        """Windows over the first ``count`` readable chunks, as indices of chunks."""
        return [tuple(self.readable[i] for i in window) for window in plan(self.costs[:count], self.room)]

    def tokens(self, count: int) -> int:
        """Tokens to compute for the first ``count`` readable chunks, at most.

        Cached passages count for what is computed of them; a beginning or a calibration that is kept is not subtracted.
        """
        planned = plan(self.costs[:count], self.room)
        return sum(sum(self.prices[i] for i in window) + self.fixed + sum(self.ends) for window in planned)

    @cached_property
    def prices(self) -> list[int]:
        """Tokens to compute of each readable chunk, with the separator behind it."""
        if self.model.labelled:
            return self.costs
        passages = [tuple(ids[: self.longest]) for ids in self.ids]
        return [tokens + self.separator for tokens in self.model.computed(passages)]

    def scores(self) -> dict[int, float]:
        """Chunk index -> score, of those that were read."""
        if not self.readable:
            return {}
        count = self.affordable()
        windows = self.windows(count)
        if len(windows) > 1:
            self.notes.append(f"{count} passages were read in {len(windows)} windows with common anchors")
        done: list[Sequence[float]] = []
        try:
            for window in windows:
                prompt, attention, calibration = self.read(window)
                done.append(icr_scores(attention, calibration, prompt.spans))
        except OutOfBudget as error:
            self.degraded = str(error)
        linked: Mapping[int, float] = link(windows[: len(done)], done)
        if len(linked) < len(self.readable):
            why = self.degraded or f"max_prefill_tokens = {self.settings.limits.max_prefill_tokens}"
            self.degraded = f"partial, {len(linked)} of {len(self.readable)} passages were compared: {why}"
        return dict(linked)

    def read(self, window: Sequence[int]) -> tuple[IcrPrompt, Array, Array]:
        """The window's prompt and the attention to its prefix: of the query, and of the query without content."""
        places = range(len(window))
        order = list(reversed(places)) if self.settings.best_last else list(places)
        place = {index: at if self.model.labelled else None for at, index in enumerate(order, start=1)}
        documents = [
            document_ids(self.model.tokenizer, self.texts[i], place[at], self.longest) for at, i in enumerate(window)
        ]
        prompt = icr_prompt(self.model.tokenizer, self.template, self.query, documents, order)
        heads = None if self.heads is None else tuple(self.heads.items())
        key = (self.model, heads, prompt.prefix.ids, prompt.calibration.ids)
        calibration = self.settings.cache.get(key) if self.model.repeats else None
        asked = [prompt.query] if calibration is not None else [prompt.query, prompt.calibration]
        attention, *rest = self.model.attention(prompt.prefix, asked, self.meter, self.heads)
        if calibration is None:
            calibration = rest[0]
            if self.model.repeats:
                self.settings.cache.put(key, calibration)
        return prompt, attention, calibration

    def affordable(self) -> int:
        """How many of the best readable chunks ``max_prefill_tokens`` allows."""
        limit = self.settings.limits.max_prefill_tokens
        low, high = 0, len(self.readable)
        if not limit or self.tokens(high) <= limit:
            return high
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.tokens(middle) <= limit else (low, middle - 1)
        return low
