"""Lists as token ids: the product's own prompts with the answers that are to be learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, cast

from rag.embedded_model.lists import PassageList
from rag.reranking import prompts
from rag.reranking.icr import LATE, IcrTemplate, Span, document_ids, icr_prompt, lead_ids
from rag.runtime.families import Family
from rag.runtime.prompt import Prompt, Role
from rag.runtime.tokens import Control, Ids, PromptTokenizer

if TYPE_CHECKING:
    from rag.runtime.reader import Reader

LABEL, TEXT, THIN = 4.0, 0.5, 0.1
"""Weights of a target: a label or place; a word of an answer or of plain text; a word of a passage."""
THIN_SHARE = 0.04
"""Of the words of passages, how many are targets."""
BLOCKS = 0.15
"""Of the attention lists, how many are read as chunks that do not see each other."""
PLAIN_TOKENS = 256
MAX_PLACE = 40


@dataclass(frozen=True, slots=True)
class Example:
    """A sequence with targets.

    targets   (position, token that follows it, weight)
    spans     [start, end) of each passage, for attention lists only
    rows      [start, end) of each query behind the passages; each query with its answer stands at the same positions,
              and does not see the others
    blocks    each passage sees the first ``lead`` tokens and itself alone
    kind      attention, listwise, pairwise ...: for the figures
    marks     (start, end, token) of each passage that has a label: what its tokens have to know
    """

    kind: str
    ids: tuple[int, ...]
    targets: tuple[tuple[int, int, float], ...]
    spans: tuple[Span, ...] = ()
    rows: tuple[Span, ...] = ()
    blocks: bool = False
    lead: int = 0
    marks: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Written:
    """What the makers of prompts ask of a reader: these two."""

    tokenizer: PromptTokenizer
    family: Family


class ExampleWriter:
    """Writes examples of all kinds. ``thin`` targets come from the random source that a call is given."""

    def __init__(self, tokenizer: PromptTokenizer, family: Family, end: str) -> None:
        self.tokenizer, self.family, self.end = tokenizer, family, end
        self._reader = cast("Reader", _Written(tokenizer, family))

    def attention(self, found: PassageList, random: Random, longest: int) -> Example:
        """The attention prompt, answered with the relevant place and a quote; other queries with the place alone.

        Chunks that do not see each other have no numbers: what is kept of a chunk does not know its place in a list.
        """
        template = self._template("QA" if random.random() < 0.2 else "IE")
        blocks = random.random() < BLOCKS
        documents = (
            [ids[:longest] for ids in self.tokenizer.encode_many(found.texts)]
            if blocks
            else [document_ids(self.tokenizer, text, place, longest) for place, text in enumerate(found.texts, start=1)]
        )
        ids: list[int] = []
        targets: list[tuple[int, int, float]] = []
        rows: list[Span] = []
        for number, (query, relevant) in enumerate([(found.query, found.relevant[0]), *found.more]):
            prompt = icr_prompt(self.tokenizer, template, query, documents, range(len(documents)))
            ids = ids or list(prompt.prefix.ids)
            start, end = len(ids), len(ids) + len(prompt.query.ids)
            rows.append((start, end))
            place = [] if blocks else self.tokenizer.encode(f" [{relevant + 1}]")
            quote = [] if number else self.tokenizer.encode(f" {found.quote}", Control(self.end))
            ids += [*prompt.query.ids, *place, *quote]
            # The place is " [", the number, "]": numbers up to 100 are one token.
            targets += [
                (end - 1 + i, token, LABEL if place and i == 1 else TEXT) for i, token in enumerate([*place, *quote])
            ]
        thin = self._thin(ids, prompt.spans, random)
        lead = prompt.spans[0][0]
        marks = (
            ()
            if blocks
            else tuple((start, end, self._place(number)) for number, (start, end) in enumerate(prompt.spans, start=1))
        )
        return Example("attention", tuple(ids), (*thin, *targets), prompt.spans, tuple(rows), blocks, lead, marks)

    @property
    def label_tokens(self) -> list[int]:
        """All tokens that a passage can be called by, ascending."""
        listed = prompts.listwise(self._reader, "", len(prompts.LIST_LABELS)).labels
        sets = prompts.setwise(self._reader, "", len(prompts.SET_LABELS)).labels
        pairs = prompts.pairwise(self._reader, "").labels
        return sorted({*map(self._place, range(1, MAX_PLACE + 1)), *listed, *sets, *pairs})

    def _place(self, number: int) -> int:
        return self.tokenizer.encode(f" [{number}]")[1]

    def lead(self) -> Ids:
        """What stands before the passages of an attention prompt."""
        return lead_ids(self.tokenizer, self._template("IE"))

    def separator(self) -> Ids:
        return self.tokenizer.encode(self._template("IE").separator)

    def query(self, text: str) -> Ids:
        """What stands behind them."""
        return list(icr_prompt(self.tokenizer, self._template("IE"), text, [], []).query.ids)

    def _template(self, late: str) -> IcrTemplate:
        strings = self.family.attention
        return IcrTemplate(strings.prefix, strings.separator, strings.suffix, LATE[late])

    def _thin(self, ids: Sequence[int], spans: Sequence[Span], random: Random) -> list[tuple[int, int, float]]:
        first, last = spans[0][0], spans[-1][1]
        chosen = sorted(random.sample(range(first, last - 1), int((last - first - 1) * THIN_SHARE)))
        return [(at, ids[at + 1], THIN) for at in chosen]

    def listwise(self, found: PassageList, random: Random, longest: int) -> Example:
        form = prompts.listwise(self._reader, found.query, len(found.texts))
        return self._labelled("listwise", form, found, longest)

    def setwise(self, found: PassageList, random: Random, longest: int) -> Example:
        form = prompts.setwise(self._reader, found.query, len(found.texts))
        return self._labelled("setwise", form, found, longest)

    def pairwise(self, found: PassageList, random: Random, longest: int) -> list[Example]:
        """Both orders of the relevant passage and another."""
        form = prompts.pairwise(self._reader, found.query)
        relevant = found.relevant[0]
        other = random.choice([at for at in range(len(found.texts)) if at not in found.relevant])
        first, second = self._passages([found.texts[relevant], found.texts[other]], form, longest)
        orders = ([first, second], form.labels[0]), ([second, first], form.labels[1])
        return [_answered("pairwise", form.write(shown), [(label, LABEL)], form.labels) for shown, label in orders]

    def yes_no(self, found: PassageList, random: Random, longest: int) -> list[Example]:
        """The relevant passage, and another."""
        form = prompts.yes_no(self._reader, found.query)
        relevant = found.relevant[0]
        other = random.choice([at for at in range(len(found.texts)) if at not in found.relevant])
        shown = self._passages([found.texts[relevant], found.texts[other]], form, longest)
        return [
            _answered("yes-no", form.write([ids]), [(label, LABEL)])
            for ids, label in zip(shown, form.labels, strict=True)
        ]

    def likelihood(self, found: PassageList, random: Random, longest: int) -> Example:
        form = prompts.likelihood(self._reader, found.query)
        prompt = form.write(self._passages([found.texts[found.relevant[0]]], form, longest))
        asked = prompt.segments[-1].ids
        before = Prompt(prompt.segments[:-1])
        return _answered("likelihood", before, [(token, TEXT) for token in asked])

    def plain(self, texts: Sequence[str]) -> Example:
        """Texts one after the other, PLAIN_TOKENS at most."""
        joined = [token for text in texts for token in self.tokenizer.start(text, Control(self.end))]
        ids = joined[:PLAIN_TOKENS]
        return Example("plain", tuple(ids), tuple((at, ids[at + 1], TEXT) for at in range(len(ids) - 1)))

    def _labelled(self, kind: str, form: prompts.Form, found: PassageList, longest: int) -> Example:
        prompt = form.write(self._passages(found.texts, form, longest))
        return _answered(kind, prompt, [(form.labels[found.relevant[0]], LABEL)], form.labels)

    def _passages(self, texts: Sequence[str], form: prompts.Form, longest: int) -> list[Ids]:
        return [ids[:longest] for ids in self.tokenizer.encode_many([form.blank + text for text in texts])]


def _answered(kind: str, prompt: Prompt, answer: Sequence[tuple[int, float]], labels: Sequence[int] = ()) -> Example:
    """The prompt with an answer; its last token is a target only. ``labels`` of its passages, in order."""
    ids = prompt.ids
    ends = list(accumulate((len(segment.ids) for segment in prompt.segments), initial=0))
    spans = [
        span for segment, *span in zip(prompt.segments, ends, ends[1:], strict=False) if segment.role is Role.PASSAGE
    ]
    marks = tuple((start, end, label) for (start, end), label in zip(spans, labels, strict=False))
    told = [token for token, _ in answer]
    targets = ((len(ids) - 1 + i, token, weight) for i, (token, weight) in enumerate(answer))
    return Example(kind, (*ids, *told[:-1]), tuple(targets), marks=marks)
