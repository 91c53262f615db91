"""A language model that reads passages from the cache: rerankers and answers use it as they use the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rag.errors import InvalidInput
from rag.kv.behind import attention_behind, logits_behind
from rag.kv.compose import Composed, compose
from rag.kv.craft import Between
from rag.kv.crafting import Crafting
from rag.kv.gate import Choice
from rag.kv.library import ChunkLibrary, Found
from rag.kv.modes import Mode
from rag.kv.plan import Chunk, again
from rag.kv.prompt_parts import Layout, layout_of
from rag.kv.states import ChunkStates
from rag.kv.together import Question, ask
from rag.runtime.families import Family
from rag.runtime.keyvalues import KeyValues
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Array, Heads, Reader
from rag.runtime.tokens import PromptTokenizer

if TYPE_CHECKING:
    import torch

Ids = tuple[int, ...]
AT_ONCE = 32_768
"""Tokens of passages whose states are held at once for a list of prompts."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a composition is made of; ``reused`` tokens of it were there."""

    head: ChunkStates | Ids
    chunks: list[Chunk]
    reused: int


class CachedReader(Reader):
    """Reads prompts whose passages' states come from a library, put together in a mode.

    What is no passage is computed in place. The tokens are the prompt's, in its order: with mode full or prefix the
    answers are the model's own, to rounding; with other modes they are what the mode makes of them, and a passage
    should not begin with the label of its place.
    ``meter.reuse`` says what was done. A prompt without passages is the model's to read.

    mode      or who chooses it when the reader is first used
    labelled  whether passages begin with the label of their place; None for where the mode allows it
    variants  false where the library's variants are neither taken nor made: passages of others may be in them
    """

    def __init__(
        self,
        library: ChunkLibrary,
        mode: Mode | Callable[[], Choice],
        *,
        labelled: bool | None = None,
        variants: bool = True,
    ) -> None:
        self.library, self.model, self.name = library, library.model, library.model.name
        self._mode, self._labelled, self._variants = mode, labelled, variants

    @cached_property
    def choice(self) -> Choice:
        """The mode, and what is to be known about it."""
        return Choice(self._mode) if isinstance(self._mode, Mode) else self._mode()

    @property
    def mode(self) -> Mode:
        return self.choice.mode

    @property
    def repeats(self) -> bool:
        """True where a prompt is composed of the same states whenever it is asked: not where variants are made."""
        return self._crafting is None

    @property
    def labelled(self) -> bool:
        return self.mode.exact if self._labelled is None else self._labelled

    @property
    def folder(self) -> str:
        return self.model.folder

    @property
    def fingerprint(self) -> str:
        return self.model.fingerprint

    @property
    def tokenizer(self) -> PromptTokenizer:
        return self.model.tokenizer

    @property
    def family(self) -> Family:
        return self.model.family

    @property
    def context(self) -> int:
        return self.model.context

    @property
    def shape(self) -> tuple[int, int]:
        return self.model.shape

    def computed(self, passages: Sequence[Ids]) -> list[int]:
        """What is not stored is read; of what is stored, and of what was read, the mode computes its part again.

        Asks the store for every name. prefix counts as if no passage stood where it was read; craft as if every passage
        with a free slot was read in place, which it is where none of its variants fits.
        """
        if self.mode.exact:
            return [len(ids) for ids in passages]
        cache = self.library.cache
        missing = [cache is None or not cache.contains(ids) for ids in passages]
        most = [len(ids) * read + again(self.mode, len(ids)) for ids, read in zip(passages, missing, strict=True)]
        crafting = self._crafting
        return most if crafting is None else list(map(max, most, crafting.in_place(passages)))

    # --- attention ---

    def attention(
        self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter, heads: Heads | None = None
    ) -> list[Array]:
        return self._attention(prefix, suffixes, meter, heads, per_head=False)

    def head_attention(self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter) -> list[Array]:
        return self._attention(prefix, suffixes, meter, None, per_head=True)

    def _attention(
        self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter, heads: Heads | None, *, per_head: bool
    ) -> list[Array]:
        ends = [suffix.ids for suffix in suffixes]
        layout = layout_of(prefix.segments, tail=False)
        if not layout.head or not layout.passages:
            if per_head:
                return self.model.head_attention(prefix, suffixes, meter)
            return self.model.attention(prefix, suffixes, meter, heads)
        layers = None if heads is None else 1 + max(heads)
        composed = self._composed(layout, max(map(len, ends)), meter, layers)
        return attention_behind(self.model, composed, ends, meter, heads, per_head=per_head)

    # --- labels and likelihood ---

    def labels(self, prompts: Sequence[Prompt], labels: Sequence[int], meter: Meter) -> Array:
        def finished(_: Question, hidden: torch.Tensor) -> list[float]:
            return [float(score) for score in self.model.scores(hidden[-1:], labels)[0].log_softmax(-1)]

        def whole(some: Sequence[Prompt]) -> Array:
            return self.model.labels(some, labels, meter)

        out = np.zeros((len(prompts), len(labels)), dtype=np.float32)
        return self._asked(prompts, out, meter, finished, whole)

    def likelihood(self, prompts: Sequence[Prompt], meter: Meter) -> Array:
        targets = [prompt.segments[-1].ids if prompt.segments else () for prompt in prompts]

        def finished(question: Question, hidden: torch.Tensor) -> float:
            import torch

            target = targets[question.tag]
            scores = self.model.scores(hidden[-len(target) - 1 : -1], None).log_softmax(-1)
            return float(scores.gather(1, torch.tensor(target, device=scores.device)[:, None]).mean())

        def whole(some: Sequence[Prompt]) -> Array:
            return self.model.likelihood(some, meter)

        return self._asked(prompts, np.zeros(len(prompts), dtype=np.float32), meter, finished, whole, targets)

    def _asked(
        self,
        prompts: Sequence[Prompt],
        out: Array,
        meter: Meter,
        finished: Callable[[Question, torch.Tensor], float | list[float]],
        whole: Callable[[Sequence[Prompt]], Array],
        targets: Sequence[Ids] | None = None,
    ) -> Array:
        """A row of ``out`` a prompt; those that are the model's to read are read by ``whole``.

        A target, of a likelihood, has tokens, and something stands between it and the last passage.
        States are asked for many prompts at once, as many as AT_ONCE allows.
        """
        layouts = [layout_of(prompt.segments, tail=True) for prompt in prompts]
        least = [len(target) + 1 if target else math.inf for target in targets] if targets else [1] * len(prompts)
        mine = [row for row, one in enumerate(layouts) if one.head and one.passages and len(one.tail) >= least[row]]
        if others := sorted(set(range(len(prompts))).difference(mine)):
            out[others] = whole([prompts[row] for row in others])
        for part in _groups([self._wanted(layouts[row]) for row in mine]):
            rows = [mine[at] for at in part]
            found = self.library.find([ids for row in rows for ids in self._wanted(layouts[row])], meter)
            parts = [self._parts(layouts[row], found, meter) for row in rows]
            questions = [
                Question(one.head, one.chunks, layouts[row].tail, row) for one, row in zip(parts, rows, strict=True)
            ]
            answers = ask(self.model, questions, self.mode, meter, finished)
            for row, one, (answer, reused) in zip(rows, parts, answers, strict=True):
                out[row] = answer
                self._tell(meter, one.reused, reused.tokens, reused.recomputed, reused.rounded)
        return out

    # --- answers ---

    def continued(self, prompt: Prompt, answer: Ids, meter: Meter) -> Array:
        """(answer, vocabulary) float32: the logits before each token of an answer behind the prompt."""
        layout = layout_of(prompt.segments, tail=True)
        if not (layout.head and layout.passages and layout.tail and answer):
            raise InvalidInput(
                "a prompt to continue has a beginning, passages and a question, and the answer has tokens"
            )
        composed = self._composed(layout, len(layout.tail) + len(answer), meter)
        return logits_behind(self.model, composed, (*layout.tail, *answer[:-1]), meter)[len(layout.tail) - 1 :]

    def begin(self, prompt: Prompt, meter: Meter, room: int) -> KeyValues:
        """The states of a prompt but for its last token, with room behind them, for the caller alone."""
        layout = layout_of(prompt.segments, tail=True)
        if not (layout.head and layout.passages and layout.tail):
            return self.model.begin(prompt, meter, room)
        composed = self._composed(layout, len(layout.tail) + room, meter)
        states, before = composed.states, composed.states.length

        def read() -> KeyValues:
            states.length = before  # whatever a try that ran out of memory has read
            self.model.prefill(layout.tail[:-1], states, meter, self.shape[0] - 1)
            return states

        return self.model.alone(meter, read, len(prompt.ids))

    # --- composition ---

    def _wanted(self, layout: Layout) -> list[Ids]:
        """The passages whose states this mode can use in the prompt."""
        if self.mode.kind == "full":
            return []
        if self.mode.kind == "prefix":
            first = layout.pieces[:1] if layout.head == self.library.lead else ()
            return [ids for ids, passage in first if passage]
        return layout.passages

    def _composed(self, layout: Layout, room: int, meter: Meter, layers: int | None = None) -> Composed:
        if layout.head == self.library.lead and (crafting := self._crafting) is not None:
            composed, reused = crafting.compose(layout.pieces, meter, room=room, layers=layers)
            self._tell(meter, reused, len(composed.ids), composed.recomputed, composed.rounded)
            return composed
        parts = self._parts(layout, self.library.find(self._wanted(layout), meter), meter)
        composed = compose(self.model, parts.head, parts.chunks, self.mode, meter, room=room, layers=layers)
        self._tell(meter, parts.reused, len(composed.ids), composed.recomputed, composed.rounded)
        return composed

    @cached_property
    def _crafting(self) -> Crafting | None:
        """Who puts variants together; None in other modes, and where none are kept."""
        if (
            not self._variants
            or self.mode.kind != "craft"
            or not self.mode.alpha
            or (slots := self.library.slots) is None
        ):
            return None
        return Crafting(self.library, slots, self.mode)

    def _parts(self, layout: Layout, found: Found, meter: Meter) -> _Parts:
        head, reused = self._head(layout, meter)
        here = layout.head == self.library.lead
        chunks: list[Chunk] = []
        for ids, passage in layout.pieces:
            states = found.states.get(ids) if passage else None
            if states is None:
                chunks.append(ids if passage else Between(ids))
                continue
            # Behind another beginning they are never exact, however long it is.
            chunks.append(states if here else replace(states, behind=0))
            reused += len(ids) if ids not in found.read else 0
        return _Parts(head, chunks, reused)

    def _tell(self, meter: Meter, reused: int, tokens: int, recomputed: float, rounded: str) -> None:
        """What was done for one prompt."""
        meter.reuse.mode = "+".join(filter(None, (str(self.mode), rounded)))
        meter.reuse.note = self.choice.note
        meter.reuse.tokens += tokens
        meter.reuse.reused += reused
        meter.reuse.again += recomputed * tokens

    def _head(self, layout: Layout, meter: Meter) -> tuple[ChunkStates | Ids, int]:
        """The beginning, and how many tokens of it were there."""
        if self.mode.kind == "full":
            return layout.head, 0
        states, there = self.library.beginning(layout.head, meter)
        return states, len(layout.head) if there else 0


def _groups(wanted: Sequence[Sequence[Ids]]) -> Iterator[list[int]]:
    """Rows in order, as many together as have passages of AT_ONCE tokens, each passage counted once."""
    rows: list[int] = []
    seen: set[Ids] = set()
    for row, passages in enumerate(wanted):
        more = seen.union(passages)
        if rows and sum(map(len, more)) > AT_ONCE:
            yield rows
            rows, more = [], set(passages)
        rows.append(row)
        seen = more
    if rows:
        yield rows
