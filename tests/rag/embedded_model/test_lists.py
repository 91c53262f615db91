"""Queries from passages, BM25 neighbours, and lists."""

from __future__ import annotations

import json
import math
from random import Random

import pytest

from rag.embedded_model import queries
from rag.embedded_model.lists import DEV_QUESTIONS, ListSource
from rag.embedded_model.neighbours import Neighbours, terms
from rag.embedded_model.open_collections import open_collections
from rag.embedded_model.passages import Corpus, Question
from rag.reranking.attention import AttentionReranker
from rag.reranking.given import Passage as GivenPassage
from rag.reranking.given import as_given
from rag.runtime.lexical import LexicalReader
from rag.values import Query
from tests.data import shared_data
from tests.rag.embedded_model.worlds import corpus, source


def test_a_passage_is_shown_as_the_attention_reranker_shows_it() -> None:
    found = corpus().passages[3]
    ranking = as_given([GivenPassage(found.text, found.title)])
    (read,) = AttentionReranker(LexicalReader()).contributions(Query("old ferry"), ranking)
    assert "".join(read.tokens) == f"[1] {found.shown}"


def test_neighbours_are_ranked_by_bm25() -> None:
    near = Neighbours(["red fox", "red red fox fox hound", "blue whale", "the of"])
    assert [place for place, _ in near.best("foxes and a red hound", 10)] == [1, 0]
    assert near.best("nothing shared", 10) == []
    # idf of a term in 1 of 4 texts, tf 1, length 2 of mean (2 + 5 + 2 + 0) / 4
    idf = math.log(1 + (4 - 1 + 0.5) / 1.5)
    assert near.scores("whale")[2] == pytest.approx(idf * 1 / (1 + 0.9 * (0.6 + 0.4 * 2 / 2.25)))


@pytest.mark.parametrize("maker", [maker for maker, _ in queries.MAKERS])
def test_every_maker_asks_in_the_passages_words(maker: queries.Maker) -> None:
    """Here, where twelve nouns are everywhere, any word of at least two passages counts as rare."""
    near, asked = _AllRare([each.shown for each in corpus().passages]), []
    for number, passage in enumerate(corpus().passages):
        made = maker(passage, near, Random(number), number % 4)
        if made is not None:
            asked.append(made)
            inside = set(terms(f"{passage.title} {passage.text} {' '.join(queries.TEMPLATES)}"))
            assert set(terms(made.query)) <= inside
            assert 0 <= made.anchor < len(made.source.sentences)
    assert asked


class _AllRare(Neighbours):
    def rare(self, text: str, most: float = 1.0) -> list[str]:
        return super().rare(text, 1.0)


def test_a_removed_sentence_is_no_longer_in_the_passage() -> None:
    for number, passage in enumerate(corpus().passages):
        made = queries.removed_sentence(passage, source().near[0], Random(number), 2)
        assert made is not None
        assert passage.sentences[2] not in made.source.text
        assert len(made.source.sentences) == 3


def test_a_title_that_is_asked_is_most_times_taken_away() -> None:
    made = [queries.title(p, source().near[0], Random(i), 0) for i, p in enumerate(corpus().passages)]
    kept = [each.source.title != "" for each in made if each is not None]
    assert 0.15 < sum(kept) / len(kept) < 0.55


def test_dropped_words_leave_the_order() -> None:
    text = "one two three four five six"
    found = queries.dropped(text, Random(3)).split()
    assert found == [word for word in text.split() if word in found]
    assert queries.dropped("alone", Random(0)) == "alone"


def test_negatives_are_never_relevant_nor_twice() -> None:
    for seed in range(30):
        found = source().negatives(0, "old lighthouse in 1871", [1, 2], Random(seed), 8)
        assert len(found) == len(set(found)) == 8
        assert not {1, 2} & set(found)


def test_the_place_of_the_relevant_passage_is_even() -> None:
    random = Random(0)
    places = [source().draw(random, 4, 40).relevant[0] for _ in range(400)]
    for place in range(4):
        assert 70 < places.count(place) < 130


def test_all_passages_of_a_list_have_titles_or_none_has() -> None:
    random = Random(5)
    for _ in range(100):
        found = source().draw(random, 5, 60)
        assert len({text.startswith("About the") for text in found.texts}) == 1


def test_other_queries_of_a_list_ask_for_other_passages_each_once() -> None:
    """In their words: every query is made from the passage that it asks for."""
    random = Random(6)
    for _ in range(50):
        found = source().draw(random, 6, 40)
        asked = [index for _, index in found.more]
        assert len(set(asked)) == len(asked) <= 5
        assert found.relevant[0] not in asked
        for query, index in found.more:
            end = " ".join(found.texts[index].split()[-4:]).rstrip(".")
            passages = [each for each in source().corpora[0].passages if end in " ".join(each.shown.split())]
            inside = [set(terms(f"{each.title} {each.text} {' '.join(queries.TEMPLATES)}")) for each in passages]
            assert any(set(terms(query)) <= words for words in inside)


def test_negatives_are_as_easy_as_is_asked() -> None:
    near = {place for place, _ in source().near[0].best("old lighthouse", 50)}
    assert near != set(range(60))
    for seed in range(10):
        assert set(source().negatives(0, "old lighthouse", [], Random(seed), 3, 0.0)) <= near


def test_lists_depend_on_the_random_source_alone() -> None:
    assert source().draw(Random(9), 6, 48) == source().draw(Random(9), 6, 48)


def test_held_out_questions_are_never_asked() -> None:
    questions = [Question(str(i), f"unmistakable{i} words{i} asked{i}", (i % 60,)) for i in range(250)]
    lists = ListSource([Corpus("scifact", corpus().passages, (), questions)])
    held = {question.text.split()[0] for _, question in lists.dev()}
    assert len(held) == DEV_QUESTIONS
    random = Random(0)
    asked = {lists.draw(random, 3, 32).query.split()[0] for _ in range(1500)}
    assert not held & asked
    assert {text for text in asked if text.startswith("unmistakable")}


def test_no_test_query_of_scifact_is_ever_asked() -> None:
    folder = shared_data("scifact")
    (found,) = [each for each in open_collections(folder.parent) if each.name == "scifact"]
    rows = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    tests = {json.loads(row)["text"] for row in rows}
    assert len(found.questions) > 800
    assert not tests & {question.text for question in found.questions}
    small = Corpus("scifact", found.passages[:300], (), [q for q in found.questions if max(q.relevant) < 300])
    lists = ListSource([small])
    random = Random(0)
    assert not tests & {lists.draw(random, 4, 48).query for _ in range(300)}
