"""Chunks tile their text, keep to the limit and carry the document's title."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes.chunking import Chunking, Count, Kind, Span, chunks, headed, packed, sentences, whole
from indexes.corpus import Document
from indexes.errors import InvalidInput

FAMILY = "👨\u200d👩\u200d👧"

SIGNS = "a|B| |\n|\n\n|. |! |Dr. |3.14|…|\f|\r\n|# |\n## x\n|```\n|---\n|\u00a0|e\u0301|中|文|。|！|」|س|؟ |न|। |각"
ALPHABET = st.sampled_from([*SIGNS.split("|"), "\u0301", "\u200d", FAMILY, "🇩🇪", "👍🏽"])
TEXTS = st.one_of(st.text(max_size=80), st.lists(ALPHABET, max_size=60).map("".join))


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def letters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


def cut(text: str, spans: Sequence[Span]) -> list[str]:
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    "claim",
    [
        ["One. ", "Two! ", "Three? ", "Four… ", "five"],
        ["Dr. Smith met J. R. Doe et al. in the U.S. in May. ", "It rained."],
        ["See e.g. Fig. 2, i.e. the ratio 3.14 vs. 2.71. ", "Next."],
        ["Room No. 5 is free. ", "He said no. ", "She left."],
        ['He said "Hi." ', "(Really?) ", "Yes."],
        ["今日は。", "「行こう！」", "と言った。", "終"],
        ["هل هذا صحيح؟ ", "نعم۔ ", "حسنا"],
        ["यह वाक्य है। ", "दूसरा ॥ ", "तीसरा"],
        ["A heading\n \n", "a paragraph\n\n\n", "another et al.\n\n", "end"],
        ["page one\f", "page two"],
        ["\n\n  First. ", "Second."],
        ["！\ufe0f" + FAMILY + ". ", "x"],
    ],
    ids=lambda claim: claim[0].strip()[:12],
)
def test_sentences_end_where_a_reader_would_end_them(claim: list[str]) -> None:
    text = "".join(claim)
    assert cut(text, sentences(text)) == claim


@given(TEXTS)
def test_sentences_tile_the_text(text: str) -> None:
    assert "".join(cut(text, sentences(text))) == text
    assert all(start < end for start, end in sentences(text))


@given(TEXTS)
def test_white_space_belongs_to_the_sentence_before_it(text: str) -> None:
    assert not any(sentence[0].isspace() for sentence in cut(text, sentences(text))[1:])


@given(TEXTS)
def test_no_sentence_starts_inside_an_emoji_or_below_an_accent(text: str) -> None:
    for sentence in cut(text, sentences(text))[1:]:
        assert sentence[0] not in "\u200d\u0301🏽"


@given(TEXTS, st.integers(1, 12), st.sampled_from([words, letters]))
def test_packed_spans_tile_the_text_and_keep_to_the_limit(text: str, limit: int, counter: Count) -> None:
    for cutter in (packed, headed):
        spans = cutter(text, limit, 0, counter)
        assert "".join(cut(text, spans)) == text
        assert all(counter([part]) <= [limit] for part in cut(text, spans))


@given(TEXTS, st.integers(2, 12), st.data())
def test_overlapping_spans_cover_the_text_and_move_forward(text: str, limit: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, limit - 1))
    spans = packed(text, limit, overlap, letters)
    assert {i for start, end in spans for i in range(start, end)} == set(range(len(text)))
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start < next_start <= end < next_end
        assert end - next_start <= overlap
        assert next_end - next_start <= limit


def test_packing_fills_each_span_as_far_as_whole_sentences_go() -> None:
    text = "One two. Three four. Five six seven. Eight."  # 2 + 2 + 3 + 1 words
    assert cut(text, packed(text, 4, 0, words)) == ["One two. Three four. ", "Five six seven. Eight."]
    assert cut(text, packed(text, 5, 2, words)) == [
        "One two. Three four. ",  # 2 + 2; with the next 3 it would be 7
        "Three four. Five six seven. ",  # 2 repeated + 3
        "Five six seven. Eight.".removeprefix("Five six seven. "),  # 3 repeated would be over the overlap of 2
    ]


def test_a_sentence_over_the_limit_is_cut_at_white_space() -> None:
    text = "alpha beta gamma delta epsilon zeta"
    assert cut(text, packed(text, 2, 0, words)) == ["alpha beta ", "gamma delta ", "epsilon zeta"]


def test_text_without_white_space_is_cut_between_characters() -> None:
    assert cut("一二三四五六七", packed("一二三四五六七", 3, 0, letters)) == ["一二", "三四", "五六七"]


def test_hard_cuts_leave_emoji_and_accents_whole() -> None:
    text = f"{FAMILY}{FAMILY}🇩🇪🇫🇷e\u0301e\u0301"
    parts = cut(text, packed(text, 5, 0, letters))
    assert "".join(parts) == text
    assert parts[:2] == [FAMILY, FAMILY]
    assert not any(part[0] in "\u200d\u0301" or part[-1] == "\u200d" for part in parts)
    assert all(sum("🇦" <= sign <= "🇿" for sign in part) % 2 == 0 for part in parts)


def test_only_a_single_code_point_can_exceed_the_limit() -> None:
    assert packed("ab", 1, 0, lambda texts: [5] * len(texts)) == [(0, 1), (1, 2)]


def test_tokens_are_counted_in_a_few_large_batches() -> None:
    batches: list[int] = []

    def count(texts: Sequence[str]) -> list[int]:
        batches.append(len(texts))
        return letters(texts)

    text = "# A\n\n" + "A sentence of words. " * 5_000 + "x" * 100_000 + "\n\n# B\n\n" + "Short. " * 5_000
    assert "".join(cut(text, headed(text, 64, 0, count))) == text
    assert len(batches) < 10


def test_no_chunk_crosses_a_heading() -> None:
    text = "Intro.\n\n# One\nA.\n\n## Two\nB. C.\n\nThree\n=====\nD.\n"
    assert cut(text, headed(text, 100, 0, words)) == [
        "Intro.\n\n",
        "# One\nA.\n\n",
        "## Two\nB. C.\n\n",
        "Three\n=====\nD.\n",
    ]


def test_a_heading_stays_with_the_deeper_one_right_below_it() -> None:
    text = "# Guide\n\n## Install\nRun it.\n\n## Use\n## Ask\n# Next\n"
    assert cut(text, headed(text, 100, 0, words)) == [
        "# Guide\n\n## Install\nRun it.\n\n",
        "## Use\n",
        "## Ask\n",
        "# Next\n",
    ]


def test_a_heading_inside_fenced_code_cuts_nothing() -> None:
    text = "# One\n```sh\n# comment\n```\nText.\n"
    assert cut(text, headed(text, 100, 0, words)) == [text]


def test_whole_is_one_span_even_of_nothing() -> None:
    assert whole("a. b") == [(0, 4)]
    assert whole("") == [(0, 0)]
    assert sentences("") == packed("", 5, 0, words) == headed("", 5, 0, words) == []


@pytest.mark.parametrize(("limit", "overlap"), [(0, 0), (-1, 0), (5, 5), (5, -1)])
def test_an_impossible_limit_or_overlap_is_refused(limit: int, overlap: int) -> None:
    with pytest.raises(InvalidInput, match="limit is at least 1"):
        packed("a", limit, overlap, words)
    with pytest.raises(InvalidInput, match="limit is at least 1"):
        Chunking(limit=limit, overlap=overlap)


def test_an_unknown_kind_of_chunking_is_refused() -> None:
    with pytest.raises(InvalidInput, match="choose one of: whole, sentences, headings"):
        Chunking(kind="pages")  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "texts"), [("whole", 1), ("sentences", 2), ("headings", 3)])
def test_each_kind_of_chunking_cuts_in_its_own_way(kind: Kind, texts: int) -> None:
    document = Document("d", "", "# A\nOne two.\n# B\nThree four. Five.\n")  # 4 + 4 + 1 words by sentence
    assert len(chunks(document, Chunking(kind, limit=8 if kind == "sentences" else 4, overlap=0), words)) == texts


@given(TEXTS, st.text(max_size=3))
def test_a_chunk_quotes_its_document_exactly(text: str, title: str) -> None:
    document = Document("doc", title, text)
    made = chunks(document, Chunking(limit=8, overlap=2), letters)
    assert [chunk.id for chunk in made] == [f"doc#{i}" for i in range(len(made))]
    assert all(chunk.text == document.text[chunk.start : chunk.end] for chunk in made)
    assert all(chunk.title == document.title and chunk.doc_id == "doc" for chunk in made)
    assert bool(made) is not document.is_empty


def test_chunks_of_white_space_are_dropped() -> None:
    document = Document("d", "", "word" + " " * 20 + "end")
    made = chunks(document, Chunking(limit=4, overlap=0), letters)
    assert all(chunk.text.strip() for chunk in made)
    assert "".join(chunk.text for chunk in made).replace(" ", "") == "wordend"


def test_a_document_with_only_a_title_keeps_one_chunk() -> None:
    (chunk,) = chunks(Document("d", "Title", " \n"), Chunking(), words)
    assert (chunk.id, chunk.start, chunk.end, chunk.content) == ("d#0", 0, 2, "Title")
    assert chunks(Document("d", "", " \n"), Chunking(), words) == []


@pytest.mark.parametrize("unit", ["A short sentence, Mr. Doe. ", "中", "x", ".'", "\n"], ids=repr)
def test_ten_megabytes_are_chunked(unit: str) -> None:
    text = unit * (10_000_000 // len(unit.encode()))
    spans = packed(text, 4_096, 0, letters)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
