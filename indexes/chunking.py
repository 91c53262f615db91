"""Cutting a document's text into chunks. Pure functions; the caller brings the token counter.

A span is a half-open pair of code point offsets. Spans tile a text: joined in order they give it back
exactly; white space belongs to the span before it, leading white space to the first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from indexes.corpus import Chunk, Document
from indexes.errors import InvalidInput
from indexes.readers.formats.headings import Heading, headings

Span = tuple[int, int]
Count = Callable[[Sequence[str]], list[int]]
"""Tokens of each of many strings."""

_ENDS = ".!?…؟۔।॥։።។။"  # a sentence ends here where white space follows
_CJK_ENDS = "。！？｡"  # these need no white space
_CLOSERS = r"[)\]}\"'»’”›」』）】》〉］]"

_STOP = re.compile(
    rf"(?P<end>(?<![{_ENDS}])[{_ENDS}]++{_CLOSERS}*+)(?P<space>\s++)"
    rf"|[{_CJK_ENDS}][{_CJK_ENDS}{_ENDS}]*+{_CLOSERS}*+\s*+"
    r"|\n[^\S\n]*+\n\s*+"
    r"|[\f\u2029]\s*+"
)
_PARAGRAPH = re.compile(r"\n[^\S\n]*+\n|[\f\u2029]")
_OPENERS = "([{\"'“‘«"
_SPELLED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]$|[^\W\d_]$")  # "e.g", "z.B", "U.S", "J"
_LONGEST_WORD = 24
_SPACE = re.compile(r"\s+")

_ABBREVIATION = re.compile(
    "al|approx|ca|capt|cf|col|dept|dr|ed|eds|eq|eqs|esp|figs?|gen|gov|hon|lt|mrs?|ms|mt|pp|prof|refs?|resp|rev"
    "|sec|sen|sgt|st|tab|viz|vols?|vs",
    re.IGNORECASE,
)
_BEFORE_NUMBERS = re.compile("art|chap|ch|nos?|nr|p", re.IGNORECASE)


def whole(text: str) -> list[Span]:
    """One span over all of the text, also where it is empty."""
    return [(0, len(text))]


def sentences(text: str) -> list[Span]:
    """Sentence spans that tile the text, none for an empty text; linear time.

    Ends: terminators of Latin, CJK, Arabic, Indic, Armenian, Ethiopic, Khmer and Burmese script with their
    closing quotes, blank lines, form feeds. Abbreviations, initials and ``3.14`` end nothing.
    """
    lead = len(text) - len(text.lstrip())
    cuts = [
        stop.end()
        for stop in _STOP.finditer(text)
        if lead < stop.end() < len(text) and not _abbreviates(text, stop) and not _inside_grapheme(text, stop.end())
    ]
    return list(pairwise([0, *cuts, len(text)])) if text else []


def _abbreviates(text: str, stop: re.Match[str]) -> bool:
    """True where the stop is the full stop of an abbreviation and no paragraph ends there."""
    if stop["end"] != "." or _PARAGRAPH.search(stop["space"]):
        return False
    before = text[max(0, stop.start() - _LONGEST_WORD) : stop.start()]
    word = "" if before[-1:].isspace() else before.rsplit(None, 1)[-1].lstrip(_OPENERS) if before else ""
    if _SPELLED.match(word):
        return "." in word or word.isupper()
    after = text[stop.end() : stop.end() + 1]
    return bool(_ABBREVIATION.fullmatch(word) or (after.isdecimal() and _BEFORE_NUMBERS.fullmatch(word)))


def _inside_grapheme(text: str, at: int, start: int = 0) -> bool:
    """True where a cut would part what is seen as one character: accents, emoji, flags, CR LF, Hangul.

    ``start`` is a known boundary at or before ``at``; flags are paired from the first of their run after it.
    """
    before, after = text[at - 1], text[at]
    if after < "\u0300":
        return before == "\r" and after == "\n"
    if before == "\u200d" or after in "\u200c\u200d" or unicodedata.category(after).startswith("M"):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return True  # skin tones, tags
    if "\u1160" <= after <= "\u11ff":
        return True  # conjoining vowels and finals
    if not "\U0001f1e6" <= after <= "\U0001f1ff":
        return False
    first = at
    while first > start and "\U0001f1e6" <= text[first - 1] <= "\U0001f1ff":
        first -= 1
    return (at - first) % 2 == 1


def packed(text: str, limit: int, overlap: int, count: Count) -> list[Span]:
    """Sentences packed in order into spans of at most ``limit`` tokens; none for an empty text.

    A span's tokens are the sum of its pieces' counts, where a piece is a sentence or, of a sentence over the
    limit, a part cut at white space (between graphemes where there is none). Each span repeats the last whole
    pieces of the one before it, at most ``overlap`` tokens. Starts and ends strictly increase, the spans
    cover the text, and with no overlap they tile it. Only a single code point can exceed the limit.
    ``count`` is called a few times with many strings.
    Raises InvalidInput unless limit >= 1 and 0 <= overlap < limit.
    """
    return _packed(text, whole(text), limit, overlap, count)


def headed(text: str, limit: int, overlap: int, count: Count) -> list[Span]:
    """The text cut at its Markdown headings, each section packed for itself as ``packed`` does.

    No span crosses a heading, except that a heading directly above a deeper one stays with it.
    """
    return _packed(text, _sections(text), limit, overlap, count)


def _sections(text: str) -> list[Span]:
    cuts: list[int] = []
    last: Heading | None = None
    for heading in headings(text):
        above = text[last.end if last else 0 : heading.start]
        if above.strip() or (last and last.level >= heading.level):
            cuts.append(heading.start)
        last = heading
    return list(pairwise([0, *cuts, len(text)]))


class _Piece(NamedTuple):
    start: int
    end: int
    tokens: int


def _packed(text: str, sections: Sequence[Span], limit: int, overlap: int, count: Count) -> list[Span]:
    _check(limit, overlap)
    spans = [[(start + s, start + e) for s, e in sentences(text[start:end])] for start, end in sections if start < end]
    pieces = iter(_within(text, [span for section in spans for span in section], limit, count))
    chunks: list[Span] = []
    for section in spans:
        chunks += _filled(_take(pieces, section[-1][1]), limit, overlap)
    return chunks


def _take(pieces: Iterator[_Piece], end: int) -> list[_Piece]:
    """The next pieces, up to the one that ends at ``end``."""
    taken = [next(pieces)]
    while taken[-1].end < end:
        taken.append(next(pieces))
    return taken


def _within(text: str, spans: Sequence[Span], limit: int, count: Count) -> list[_Piece]:
    """The spans with their tokens, those over the limit cut until each part is within it.

    One count a round; each round cuts a span into as many parts as its tokens ask for, so rounds grow with
    the logarithm of its length.
    """
    pieces = _counted(text, spans, count)
    while any(_is_over(piece, limit) for piece in pieces):
        cut = [span for piece in pieces if _is_over(piece, limit) for span in _parts(text, piece, limit)]
        kept = [piece for piece in pieces if not _is_over(piece, limit)]
        pieces = sorted([*kept, *_counted(text, cut, count)])
    return pieces


def _is_over(piece: _Piece, limit: int) -> bool:
    return piece.tokens > limit and piece.end - piece.start > 1


def _counted(text: str, spans: Sequence[Span], count: Count) -> list[_Piece]:
    tokens = count([text[start:end] for start, end in spans]) if spans else []
    return [_Piece(*span, n) for span, n in zip(spans, tokens, strict=True)]


def _parts(text: str, piece: _Piece, limit: int) -> list[Span]:
    """The piece cut into about ``tokens / limit`` parts of like length, at least two."""
    start, end, tokens = piece
    parts = min(-(-tokens // limit), end - start)
    cuts = [start]
    for i in range(1, parts):
        target, ahead = (start + (end - start) * n // parts for n in (i, i + 1))
        if target > cuts[-1]:
            cuts.append(_cut(text, cuts[-1], target, ahead, end))
    cuts = [*cuts, end] if cuts[-1] < end else cuts
    return list(pairwise(cuts if len(cuts) > 2 else [start, (start + end) // 2, end]))


def _cut(text: str, start: int, target: int, ahead: int, end: int) -> int:
    """Where to cut in (start, end]: after the last white space up to ``target`` or the first up to ``ahead``.

    Without white space: at the last boundary between graphemes up to ``target``, or the next one.
    """
    words = text[start:target].rsplit(None, 1)
    at_space = text[target - 1].isspace() or len(words) < 2
    found = _SPACE.search(text, target - 1, ahead) if words and at_space else None
    cut = found.end() if found else target if at_space else target - len(words[1])
    if start < cut < end and (found or not at_space) and not _inside_grapheme(text, cut, start):
        return cut
    below = (at for at in range(target, start, -1) if not _inside_grapheme(text, at, start))
    above = (at for at in range(target + 1, end) if not _inside_grapheme(text, at, start))
    return next(below, None) or next(above, end)


def _filled(pieces: Sequence[_Piece], limit: int, overlap: int) -> list[Span]:
    """The longest runs of pieces within ``limit`` tokens; each repeats at most ``overlap`` tokens."""
    spans: list[Span] = []
    first = tokens = 0
    for i, piece in enumerate(pieces):
        if i > first and tokens + piece.tokens > limit:
            spans.append((pieces[first].start, pieces[i - 1].end))
            tokens -= pieces[first].tokens
            first += 1
            while first < i and (tokens > overlap or tokens + piece.tokens > limit):
                tokens -= pieces[first].tokens
                first += 1
        tokens += piece.tokens
    return [*spans, (pieces[first].start, pieces[-1].end)]


def _check(limit: int, overlap: int) -> None:
    if limit < 1 or not 0 <= overlap < limit:
        raise InvalidInput(
            f"chunks of {limit} tokens with {overlap} repeated cannot be cut: the limit is at least 1, the "
            "overlap at least 0 and below the limit; for example limit=256, overlap=32"
        )


Kind = Literal["whole", "sentences", "headings"]


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents are cut. ``limit`` and ``overlap`` count tokens; "whole" uses neither.

    Raises InvalidInput for an unknown kind and unless limit >= 1 and 0 <= overlap < limit.
    """

    kind: Kind = "sentences"
    limit: int = 256
    overlap: int = 32

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidInput(f"no chunking {self.kind!r}; choose one of: {', '.join(get_args(Kind))}")
        _check(self.limit, self.overlap)

    def spans(self, text: str, count: Count) -> list[Span]:
        """The chunks' spans in order; they cover the text."""
        if self.kind == "whole":
            return whole(text)
        return (headed if self.kind == "headings" else packed)(text, self.limit, self.overlap, count)


def chunks(document: Document, chunking: Chunking, count: Count) -> list[Chunk]:
    """The document's chunks in order, none where it is empty.

    Chunks of white space are dropped; a document that has only a title keeps one chunk, to be found by it.
    """
    if document.is_empty:
        return []
    text = document.text
    spans = [(start, end) for start, end in chunking.spans(text, count) if text[start:end].strip()]
    return [
        Chunk(
            id=f"{document.id}#{i}",
            doc_id=document.id,
            text=text[start:end],
            start=start,
            end=end,
            title=document.title,
        )
        for i, (start, end) in enumerate(spans or whole(text))
    ]
