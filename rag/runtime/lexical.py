"""A reader without weights: it answers by the words that a passage and the query share. For demos and tests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from string import ascii_letters, ascii_lowercase

import numpy as np

from rag.errors import InvalidInput
from rag.runtime.families import Family, families
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Role, Segment, joined
from rag.runtime.reader import Array, Heads, Reader
from rag.runtime.tokens import PromptTokenizer

STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by can do does for from had has have how if in is it its may most no not of on or that "
        "the there this to was were what when where which who why will with yes",
    )
)
"""Words that say nothing about a topic."""
PAIRS = "th he in er re an on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro"
"""Frequent letter pairs of English; a token is a pair of letters, or two of these."""
SHARPNESS = 8.0
"""Log-odds between a passage with every word of the query and one with none."""
OUTSIDE = -30.0
"""Log-odds of a label that belongs to no passage."""
SMOOTHING = 0.5
VOCABULARY = 10_000
"""Words a passage might have had, each counted SMOOTHING times."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""Runs of letters and digits; kana and Chinese characters one by one."""


class LexicalReader(Reader):
    """Attention, label scores and likelihoods from shared words: deterministic, needs no torch and no file.

    It shows what a pipeline does and what it would cost, not what a language model would answer. Words are compared in
    lower case, STOP is left out. A call counts what a model would compute that shares beginnings within the call.
    """

    name = "lexical"

    @cached_property
    def tokenizer(self) -> PromptTokenizer:
        return PromptTokenizer(_serialized())

    @property
    def fingerprint(self) -> str:
        rules = f"{_serialized()}{sorted(STOP)}{SHARPNESS}{OUTSIDE}{SMOOTHING}{VOCABULARY}{_WORD.pattern}"
        return f"lexical:{hashlib.blake2b(rules.encode(), digest_size=8).hexdigest()}"

    @property
    def family(self) -> Family:
        return next(family for family in families() if family.name == "plain")

    @property
    def context(self) -> int:
        return 131_072

    @property
    def shape(self) -> tuple[int, int]:
        return 2, 2

    def attention(
        self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter, heads: Heads | None = None
    ) -> list[Array]:
        """Each word that a passage shares with the suffix has the same mass, spread over the tokens it stands in.

        A passage's sum is therefore the number of different shared words times a unit that depends on the prefix
        only; words of the instruction cancel where a calibration is subtracted. All heads are alike, and the masses
        add up to at most the number of heads.
        """
        layers, width = self.shape
        counted = layers * width if heads is None else sum(map(len, heads.values()))
        self._compute([len(prefix.ids), *(len(suffix.ids) for suffix in suffixes)], meter, len(suffixes) + 1)
        places = [self._places(segment.ids) if _is_passage(segment) else {} for segment in prefix.segments]
        starts = np.cumsum([0, *(len(segment.ids) for segment in prefix.segments)])
        unit = counted / max(1, sum(map(len, places)))
        found = []
        for suffix in suffixes:
            asked = set(self._words(suffix.ids))
            mass = np.zeros(starts[-1], dtype=np.float32)
            for start, words in zip(starts, places, strict=False):
                for word in asked.intersection(words):
                    tokens = words[word]
                    mass[[start + token for token in tokens]] += unit / len(tokens)
            found.append(mass)
        return found

    def head_attention(self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter) -> list[Array]:
        layers, width = self.shape
        share = self.attention(prefix, suffixes, meter)
        return [np.tile(mass / np.float32(layers * width), (layers, width, 1)) for mass in share]

    def labels(self, prompts: Sequence[Prompt], labels: Sequence[int], meter: Meter) -> Array:
        """Label i stands for passage i, which scores by its share of the query's words.

        One passage and two labels are yes and no: even odds at half of the words.
        """
        self._compute_rows(prompts, meter)
        logits = np.full((len(prompts), len(labels)), OUTSIDE)
        for row, prompt in zip(logits, prompts, strict=True):
            asked = {
                word for segment in prompt.segments if segment.role is Role.QUERY for word in self._words(segment.ids)
            }
            passages = [set(self._words(segment.ids)) for segment in prompt.segments if _is_passage(segment)]
            shares = [SHARPNESS * len(asked & words) / max(1, len(asked)) for words in passages[: len(labels)]]
            row[: len(shares)] = shares
            if len(passages) == 1 and len(labels) == 2:
                row[1] = SHARPNESS / 2
        top = logits.max(axis=1, keepdims=True, initial=0.0)
        sums = np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        return np.asarray(logits - top - sums, dtype=np.float32)

    def likelihood(self, prompts: Sequence[Prompt], meter: Meter) -> Array:
        """Mean log of the probabilities of the last segment's words, each counted in the passages and smoothed."""
        if not all(prompt.segments and prompt.segments[-1].ids for prompt in prompts):
            raise InvalidInput("a likelihood needs a last segment with tokens")
        self._compute_rows(prompts, meter)
        means = []
        for prompt in prompts:
            words = [word for segment in prompt.segments if _is_passage(segment) for word in self._words(segment.ids)]
            target = self._words(prompt.segments[-1].ids) or [""]
            total = len(words) + SMOOTHING * VOCABULARY
            means.append(np.mean([np.log((words.count(word) + SMOOTHING) / total) for word in target]))
        return np.array(means, dtype=np.float32)

    # --- counts ---

    def _compute(self, tokens: Sequence[int], meter: Meter, passes: int) -> None:
        if not tokens:
            return
        if tokens[0] + max(tokens[1:], default=0) > self.context:
            raise InvalidInput(f"a prompt is longer than the {self.context} tokens that {self.name!r} reads")
        meter.allow(sum(tokens))
        meter.count(sum(tokens), passes=passes)

    def _compute_rows(self, prompts: Sequence[Prompt], meter: Meter) -> None:
        """A pass for every level of shared beginnings, each computed once, and one for the rest."""
        if any(len(prompt.ids) > self.context for prompt in prompts):
            raise InvalidInput(f"a prompt is longer than the {self.context} tokens that {self.name!r} reads")
        beginnings = {
            joined(prompt.segments[:depth]): len(prompt.segments[depth - 1].ids)
            for prompt in prompts
            for depth in range(1, prompt.shared + 1)
        }
        tokens = sum(beginnings.values()) + sum(len(prompt.tail) for prompt in prompts)
        if prompts:
            meter.allow(tokens)
            meter.count(tokens, passes=1 + max(prompt.shared for prompt in prompts))

    # --- words ---

    def _words(self, ids: Sequence[int]) -> list[str]:
        return [word for word, _, _ in _spans([_byte_pieces()[token] for token in ids])]

    def _places(self, ids: Sequence[int]) -> dict[str, list[int]]:
        """Word -> the tokens it stands in; a token of two words belongs to the first."""
        pieces = [_byte_pieces()[token] for token in ids]
        ends = np.cumsum([len(piece) for piece in pieces])
        places: dict[str, list[int]] = {}
        taken = 0
        for word, start, end in _spans(pieces):
            first, last = (int(i) for i in np.searchsorted(ends, [start, end - 1], side="right"))
            tokens = range(max(taken, first), last + 1)
            if tokens:
                places.setdefault(word, []).extend(tokens)
            taken = last + 1
        return places


def _is_passage(segment: Segment) -> bool:
    return segment.role is Role.PASSAGE


def _spans(pieces: Sequence[bytes]) -> Iterator[tuple[str, int, int]]:
    """Every word that is no stop word, in lower case, with its start and end in bytes."""
    text = b"".join(pieces).decode("utf-8", "surrogateescape")
    at = end = 0
    for match in _WORD.finditer(text):
        start = end + len(text[at : match.start()].encode("utf-8", "surrogateescape"))
        at, end = match.end(), start + len(match[0].encode("utf-8"))
        if (word := match[0].lower()) not in STOP:
            yield word, start, end


# --- the tokenizer: bytes, a blank with the letter behind it, letter pairs ---


@cache
def _alphabet() -> dict[int, str]:
    """Byte -> the character that stands for it in a byte-level vocabulary: itself where it can be printed."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@cache
def _byte_pieces() -> list[bytes]:
    """The bytes of each token id."""
    known = {character: byte for byte, character in _alphabet().items()}
    return [bytes(known[character] for character in piece) for piece in _vocabulary()]


@cache
def _vocabulary() -> list[str]:
    return [*_alphabet().values(), *("".join(merge) for merge in _merges())]


@cache
def _merges() -> list[tuple[str, str]]:
    """Most wanted first: a blank with its letter, letter pairs, and pairs of frequent pairs."""
    blank, frequent = _alphabet()[ord(" ")], PAIRS.split()
    letters = [(blank, letter) for letter in ascii_letters]
    pairs = [(pair[0], pair[1]) for pair in frequent]
    rare = [(first, second) for first in ascii_lowercase for second in ascii_lowercase]
    longer = [(first, second) for first in frequent for second in frequent]
    return list(dict.fromkeys([*letters, *pairs, *rare, *longer]))


@cache
def _serialized() -> str:
    """As the ``tokenizers`` library reads it."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": {piece: i for i, piece in enumerate(_vocabulary())}, "merges": _merges()}
    unset = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor"))
    return json.dumps(
        {"version": "1.0", "added_tokens": [], "pre_tokenizer": level, "decoder": level, "model": model} | unset
    )
