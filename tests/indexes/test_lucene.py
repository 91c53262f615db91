"""BM25 is Lucene's: it equals a slow plain twin and Anserini's own searcher, ties go by chunk id."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from indexes.corpus import Chunk
from indexes.errors import CollectionDamaged, InvalidInput
from indexes.jvm import java
from indexes.lucene import Bm25Parameters, LuceneSearcher, LuceneWriter, allow_rows
from tests.indexes.conftest import VOCABULARY

CORPUS: list[list[str]] = []
for _i in range(300):  # 1 to about 130 words, so that the length norm loses digits
    _rng = np.random.default_rng(_i)
    _picked = np.minimum(_rng.zipf(1.2, 1 + _i * 13 % 130), len(VOCABULARY)) - 1
    CORPUS.append([VOCABULARY[j] for j in _picked])


def chunk(number: int, text: str, title: str = "") -> tuple[int, Chunk]:
    return number, Chunk(f"d{number}#0", f"d{number}", text, 0, len(text), title)


def index(directory: Path, *chunks: tuple[int, Chunk], parameters: Bm25Parameters | None = None) -> LuceneSearcher:
    writer = LuceneWriter(directory)
    writer.add(chunks)
    writer.commit(0)
    writer.close()
    return LuceneSearcher(directory, parameters or Bm25Parameters())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lucene")
    index(path, *(chunk(i, " ".join(words)) for i, words in enumerate(CORPUS, 1)))
    return path


@pytest.fixture(scope="module")
def searcher(directory: Path) -> LuceneSearcher:
    return LuceneSearcher(directory, Bm25Parameters())


def stored_length(n: int) -> int:
    """A length as Lucene keeps it in one byte: exact up to 39, then with four significant bits above 24."""
    if n < 24 or (n - 24).bit_length() < 4:
        return n
    shift = (n - 24).bit_length() - 4
    return 24 + ((n - 24) >> shift << shift)


def plain_bm25(query: list[str], k1: float, b: float) -> dict[int, float]:
    """Row to the sum over query words of ln(1 + (N - df + .5) / (df + .5)) * tf / (tf + k1 (1 - b + b dl / avgdl))."""
    average = sum(map(len, CORPUS)) / len(CORPUS)
    scores: dict[int, float] = {}
    for row, words in enumerate(CORPUS, 1):
        counts = Counter(words)
        for word in query:
            if tf := counts[word]:
                df = sum(word in other for other in CORPUS)
                idf = math.log(1 + (len(CORPUS) - df + 0.5) / (df + 0.5))
                norm = k1 * (1 - b + b * stored_length(len(words)) / average)
                scores[row] = scores.get(row, 0.0) + idf * tf / (tf + norm)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (2.0, 1.0), (0.5, 0.0)])
def test_scores_equal_the_plain_twin(directory: Path, k1: float, b: float) -> None:
    query = [VOCABULARY[0], VOCABULARY[3], VOCABULARY[3], VOCABULARY[40]]  # a word twice counts twice
    expected = plain_bm25(query, k1, b)
    rows, scores = LuceneSearcher(directory, Bm25Parameters(k1, b)).search(" ".join(query), 1000)
    assert set(rows) == set(expected)
    assert scores == pytest.approx([expected[row] for row in rows], rel=1e-5)
    assert scores == sorted(scores, reverse=True)


def test_anserini_gives_the_same_ids_order_and_scores(directory: Path, searcher: LuceneSearcher) -> None:
    theirs = java("io.anserini.search.SimpleSearcher")(str(directory))
    theirs.set_bm25(0.9, 0.4)
    for query in ("bab bib tug", VOCABULARY[7], " ".join(VOCABULARY[20:30])):
        hits = theirs.search(query, 50)
        rows, scores = searcher.search(query, 50)
        assert [f"d{row}#0" for row in rows] == [hit.docid for hit in hits]
        assert scores == pytest.approx([hit.score for hit in hits], abs=1e-4), "theirs are rounded"
        assert rows
    theirs.close()


def test_ties_go_by_ascending_chunk_id_in_code_points(tmp_path: Path) -> None:
    names = ["z", "ä", "\U0001f600", "B", "a", "10", "9", "\uffee"]
    texts = [(row, Chunk(f"{name}#0", name, "same words", 0, 10)) for row, name in enumerate(names, 1)]
    searcher = index(tmp_path / "lucene", *texts)
    rows, scores = searcher.search("words", 10)
    assert len(set(scores)) == 1
    assert [names[row - 1] for row in rows] == sorted(names)
    assert [names[row - 1] for row in searcher.search("words", 3)[0]] == sorted(names)[:3]


@pytest.mark.parametrize("k", [1, 2, 7, 50, 299])
def test_the_top_k_is_a_prefix_of_every_longer_list(searcher: LuceneSearcher, k: int) -> None:
    query = " ".join(VOCABULARY[:6])
    rows, scores = searcher.search(query, 10_000)
    assert searcher.search(query, k) == (rows[:k], scores[:k])
    assert len(rows) > 200


@pytest.mark.parametrize("query", ["", "   ", "the of and to", "!!! ??? ...", "\x00\x01", "\ud800"])
def test_a_query_without_words_finds_nothing(searcher: LuceneSearcher, query: str) -> None:
    assert searcher.search(query, 5) == ([], [])
    assert searcher.search(query, 5, allow_rows(np.arange(1, 9))) == ([], [])


@pytest.mark.parametrize(
    "query",
    [
        "{} AND", "NOT {}", '"{}', "{}^9", "({}", "row:1 {}", "id: {}", "{}*", "{}~2", "+{} -{}", "\x00{}\x07",
        "\U0001f600 {}", "{}\u2028", "\ud83d {}", "/{}/", "[{} TO *]",
    ],
)  # fmt: skip
def test_query_syntax_and_odd_characters_are_plain_text(searcher: LuceneSearcher, query: str) -> None:
    word = VOCABULARY[60]
    expected = searcher.search(word, 1000)[0]
    assert searcher.search(query.replace("{}", word), 1000)[0] == expected
    assert expected


def test_emoji_and_words_beyond_the_basic_plane_are_found(tmp_path: Path) -> None:
    searcher = index(tmp_path / "lucene", chunk(1, "plain"), chunk(2, "\U00010330\U00010331 gothic \U0001f600"))
    assert searcher.search("\U00010330\U00010331", 5)[0] == [2]
    assert searcher.search("\U0001f600", 5)[0] == [2]


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    searcher = index(tmp_path / "lucene")
    assert len(searcher) == 0
    assert searcher.search("anything", 10) == ([], [])


@pytest.mark.parametrize("k", [0, -1])
def test_none_asked_for_none_given(searcher: LuceneSearcher, k: int) -> None:
    assert searcher.search(VOCABULARY[0], k) == ([], [])


def test_more_words_than_lucene_takes_are_refused_with_the_limit(searcher: LuceneSearcher) -> None:
    with pytest.raises(InvalidInput, match="more than 16384 different words"):
        searcher.search(" ".join(f"w{i}" for i in range(17_000)), 5)


def test_the_title_is_searched_with_the_text(tmp_path: Path) -> None:
    searcher = index(tmp_path / "lucene", chunk(1, "body", title="heading"), chunk(2, "other"))
    assert searcher.search("heading", 5)[0] == [1]


def test_allowed_rows_are_cut_before_k_and_scored_the_same(searcher: LuceneSearcher) -> None:
    query = " ".join(VOCABULARY[:4])
    everything = dict(zip(*searcher.search(query, 1000), strict=True))
    allowed = sorted(everything)[-20:]
    rows, scores = searcher.search(query, 20, allow_rows(np.array(allowed)))
    assert sorted(rows) == allowed
    assert scores == [everything[row] for row in rows]
    assert searcher.search(query, 5, allow_rows(np.empty(0, np.int64))) == ([], [])


def test_a_hundred_thousand_allowed_rows_work_in_sane_time(tmp_path: Path) -> None:
    n = 20_000
    searcher = index(tmp_path / "lucene", *(chunk(i, f"word even{i % 2}") for i in range(1, n + 1)))
    rows = np.arange(2, 200_000, 2, dtype=np.int64)
    started = time.perf_counter()
    allowed = allow_rows(rows)
    for _ in range(3):
        assert searcher.search("word", 10, allowed)[0][0] % 2 == 0
    assert len(searcher.search("word", n, allowed)[0]) == n // 2
    assert time.perf_counter() - started < 10, "about half a second alone"


def test_a_change_may_be_applied_twice(tmp_path: Path) -> None:
    index(tmp_path / "lucene", *(chunk(i, "word") for i in range(1, 6)))
    for _ in range(2):
        writer = LuceneWriter(tmp_path / "lucene")
        writer.delete_from(6)
        writer.delete_rows([2, 77])
        writer.add([chunk(6, "word")])
        writer.commit(1)
        writer.close()
        searcher = LuceneSearcher(tmp_path / "lucene", Bm25Parameters())
        assert sorted(searcher.search("word", 10)[0]) == [1, 3, 4, 5, 6]
        assert searcher.generation == 1


def test_nothing_is_visible_before_the_commit_or_after_it_is_abandoned(tmp_path: Path) -> None:
    index(tmp_path / "lucene", chunk(1, "word"))
    writer = LuceneWriter(tmp_path / "lucene")
    writer.add([chunk(2, "word")])
    assert len(LuceneSearcher(tmp_path / "lucene", Bm25Parameters())) == 1
    writer.abandon()
    assert len(LuceneSearcher(tmp_path / "lucene", Bm25Parameters())) == 1


def test_a_missing_directory_is_damage_and_not_an_empty_index(tmp_path: Path) -> None:
    with pytest.raises(CollectionDamaged, match="missing"):
        LuceneSearcher(tmp_path / "nothing", Bm25Parameters())
    (tmp_path / "empty").mkdir()
    with pytest.raises(CollectionDamaged, match="cannot be used"):
        LuceneSearcher(tmp_path / "empty", Bm25Parameters())


def test_closing_one_searcher_leaves_the_others_open(tmp_path: Path) -> None:
    """pyjnius keeps a bound method's object in its class: a kept ``reader.close`` would close the newest reader."""
    old = index(tmp_path / "one", chunk(1, "word"))
    new = index(tmp_path / "two", chunk(2, "word"))
    assert old.search("word", 1)[0] == [1]
    del old
    gc.collect()
    assert new.search("word", 1)[0] == [2]


def test_threads_with_an_index_each_never_get_the_answer_of_another(tmp_path: Path) -> None:
    """Without a lock around pyjnius this ends the process."""
    searchers = [index(tmp_path / str(n), *(chunk(100 * n + i, "word") for i in range(20))) for n in range(4)]
    wrong: list[object] = []

    def ask(n: int) -> None:
        allowed = allow_rows(np.arange(100 * n + 5, 100 * n + 9))
        for _ in range(250):
            rows = searchers[n].search("word", 5)[0] + searchers[n].search("word", 4, allowed)[0]
            wrong.extend(row for row in rows if row // 100 != n)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
