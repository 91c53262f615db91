"""Text to token ids, piece by piece, so that a document's text can never become a control token."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

from rag.errors import ModelNotAvailable

Ids = list[int]

_BLANK = "\u2581"
"""The blank of SentencePiece-like tokenizers, which put one before every text."""
_INVISIBLE = "\u200b"
"""Zero width space."""


@dataclass(frozen=True, slots=True)
class Control:
    """Template text, in which the tokenizer's control strings become control tokens."""

    text: str


class PromptTokenizer:
    """A fast tokenizer taken apart: one that knows the control strings, and one to which they are plain text.

    serialized  the tokenizer as JSON, in the form of the ``tokenizers`` library
    reserved    strings the model's template uses that may be ordinary text to this tokenizer, as "[/INST]" is to some:
                in text that was found they get an invisible character, so that they are never the template's ids
    Threads may share it. Raises ModelNotAvailable for a tokenizer whose pieces cannot be put together.
    """

    def __init__(self, serialized: str, reserved: Sequence[str] = ()) -> None:
        from tokenizers import Tokenizer

        spec = json.loads(serialized)
        self._whole = Tokenizer.from_str(serialized)
        self._added = {added["content"]: int(added["id"]) for added in spec["added_tokens"]}
        self._strips = {a["content"]: (a.get("lstrip", False), a.get("rstrip", False)) for a in spec["added_tokens"]}
        self._plain = Tokenizer.from_str(json.dumps(_without_added(spec)))
        for tokenizer in (self._whole, self._plain):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        unknown = self._added.get(spec["model"].get("unk_token") or "")
        self.control_ids = frozenset(self._added.values()) - {unknown}
        self._split = _any_of(self._added)
        self._reserved = _any_of([text for text in reserved if text not in self._added])
        # Behind a line break, which merges with nothing in such a tokenizer, a piece stands as inside a text.
        shown = self._plain.encode("\n", add_special_tokens=False).tokens
        self._sentinel, self._lead = ("\n", len(shown)) if shown[:1] == [_BLANK] else ("", 0)
        if self._plain.encode("a", add_special_tokens=False).tokens[:1] in (["\u0120a"], ["\u0120"]):
            raise ModelNotAvailable("a tokenizer that puts a blank before every text is not supported")
        framed, bare = (self._whole.encode("a", add_special_tokens=special).ids for special in (True, False))
        self._first: Ids = framed[: framed.index(bare[0])] if bare else framed[:1]
        self._fresh_after_control = self._continues_fresh()

    @cached_property
    def digest(self) -> str:
        """128 bits in hex of all that decides the ids of a text."""
        return blake2b(f"{self._whole.to_str()}{self._reserved}".encode(), digest_size=16).hexdigest()

    def __contains__(self, control: object) -> bool:
        """True where ``control`` is a control string of this tokenizer."""
        return control in self._added

    def start(self, *parts: str | Control) -> Ids:
        """The ids at the start of a prompt, with the tokenizer's own first token (BOS) where it has one."""
        return self._first + self._pieces(parts, fresh=True)

    def encode(self, *parts: str | Control) -> Ids:
        """The ids of a piece inside a prompt, encoded as one text wherever no control token cuts it."""
        return self._pieces(parts, fresh=False)

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        """``encode`` of every text, in parallel."""
        inert = [self._sentinel + self._found(text) for text in texts]
        found = self._plain.encode_batch(inert, add_special_tokens=False)
        return [self._inert(encoding.ids[self._lead :]) for encoding in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, control tokens among them. Bytes that are no UTF-8 become U+FFFD."""
        return str(self._whole.decode(list(ids), skip_special_tokens=False))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text; joined they are ``decode(ids)``, but for an unfinished last character."""
        found, done = [], 0
        for end in range(1, len(ids) + 1):
            text = self.decode(ids[:end])
            whole = len(text) - len(text.rstrip("\ufffd")) == 0
            found.append(text[done:] if whole else "")
            done = len(text) if whole else done
        return found

    def _pieces(self, parts: Sequence[str | Control], *, fresh: bool) -> Ids:
        ids: Ids = []
        waiting, after_control = "", fresh
        for token, text in self._sections(parts):
            if token is None:
                waiting += text
                continue
            ids += [*self._section(waiting, after_control), token]
            waiting, after_control = "", self._fresh_after_control
        return ids + self._section(waiting, after_control)

    def _sections(self, parts: Sequence[str | Control]) -> list[tuple[int | None, str]]:
        """(id of a control token or None, plain text) in order; only template parts hold control tokens."""
        sections: list[tuple[int | None, str]] = []
        for part in parts:
            if isinstance(part, str):
                sections.append((None, self._found(part)))
            elif self._split is None:
                sections.append((None, part.text))
            else:
                sections += [(self._added.get(text), text) for text in self._split.split(part.text)]
        return _stripped(sections, self._strips)

    def _found(self, text: str) -> str:
        """Text that was found, with each reserved string broken."""
        if self._reserved is None:
            return text
        return self._reserved.sub(lambda match: match[0][:2] + _INVISIBLE + match[0][2:], text)

    def _continues_fresh(self) -> bool:
        """Whether text behind a control token is encoded as at the start of a text."""
        for control, token in self._added.items():
            ids = self._whole.encode(control + "a", add_special_tokens=False).ids
            if ids[:1] == [token]:
                return bool(ids[1:] == self._encode_plain("a"))
        return True

    def _section(self, text: str, after_control: bool) -> Ids:
        """Plain text after a control token or the start as the tokenizer has it there, else as a continuation."""
        if not text:
            return []
        if after_control:
            return self._inert(self._encode_plain(text))
        return self._inert(self._encode_plain(self._sentinel + text)[self._lead :])

    def _encode_plain(self, text: str) -> Ids:
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def _inert(self, ids: Ids) -> Ids:
        """Without control ids; the vocabulary of a tokenizer may hold their strings as ordinary pieces too."""
        return ids if self.control_ids.isdisjoint(ids) else [i for i in ids if i not in self.control_ids]


def controls_of(serialized: str) -> frozenset[str]:
    """The control strings of a tokenizer given as JSON."""
    return frozenset(str(added["content"]) for added in json.loads(serialized)["added_tokens"])


def _any_of(strings: Iterable[str]) -> re.Pattern[str] | None:
    """Matches each of the strings, the longest first; None for none."""
    ordered = sorted(strings, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None


def _without_added(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}


def _stripped(
    sections: list[tuple[int | None, str]], strips: dict[str, tuple[bool, bool]]
) -> list[tuple[int | None, str]]:
    """Blanks beside a control token that takes them in are dropped, as the tokenizer does."""
    out: list[tuple[int | None, str]] = []
    for token, text in sections:
        left, _ = strips[text] if token is not None else (False, False)
        if left and out and out[-1][0] is None:
            out[-1] = (None, out[-1][1].rstrip())
        if token is None and out and out[-1][0] is not None and strips[out[-1][1]][1]:
            text = text.lstrip()
        out.append((token, text))
    return out
