"""A small world for training: made-up documentation, questions about it, a tiny shape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random

import numpy as np

from indexes.encoding import Matrix
from rag.embedded_model.architecture import Shape
from rag.embedded_model.examples import ExampleWriter
from rag.embedded_model.lists import ListSource
from rag.embedded_model.passages import Corpus, Passage, Question, passage
from rag.embedded_model.tokenizer import CONTROLS, END, train_tokenizer
from rag.encoders import SentenceEncoder
from rag.runtime.families import family_of
from rag.runtime.tokens import PromptTokenizer

TINY = Shape(vocabulary=640, width=32, layers=2, query_heads=4, key_heads=2, inner=48, heads=((0, 1), (1, 0), (1, 3)))
NOUNS = ("lighthouse", "ferry", "puffin", "cheese", "harbour", "cliff", "museum", "orchard", "glacier", "lantern")
VERBS = ("guards", "crosses", "feeds", "warms", "paints", "follows", "measures", "hides")
ADJECTIVES = ("old", "narrow", "silver", "quiet", "northern", "hollow", "bright", "frozen")


@cache
def corpus() -> Corpus:
    """60 passages of four sentences, and 24 questions in the words of the passages that answer them."""
    random = Random(1)
    passages = tuple(_passage(random, number) for number in range(60))
    questions = tuple(Question(f"q{i}", passages[i].sentences[1], (i,)) for i in range(24))
    return Corpus("small", passages, ("made up: CC0",), questions)


def _passage(random: Random, number: int) -> Passage:
    def sentence() -> str:
        first, second = random.sample(NOUNS, 2)
        return (
            f"The {random.choice(ADJECTIVES)} {first} {random.choice(VERBS)} the {random.choice(ADJECTIVES)} {second} "
            f"in {1800 + random.randrange(200)}."
        )

    title = f"About the {random.choice(ADJECTIVES)} {random.choice(NOUNS)} {number}"
    return passage(title, " ".join(sentence() for _ in range(4)))


@cache
def source() -> ListSource:
    return ListSource([corpus()])


@cache
def prompt_tokenizer() -> PromptTokenizer:
    texts = [each.shown for each in corpus().passages]
    return PromptTokenizer(train_tokenizer(texts, TINY.vocabulary).to_str(), family_of("llama", CONTROLS).reserved)


@cache
def writer() -> ExampleWriter:
    return ExampleWriter(prompt_tokenizer(), family_of("llama", CONTROLS), END)


class Letters(SentenceEncoder):
    """Texts are alike that have the same letters; ``asked`` tells how many texts were encoded."""

    asked = 0

    def encode_passages(self, texts: Sequence[str], progress: object = None) -> Matrix:
        self.asked += len(texts)
        counts = np.array([[text.lower().count(letter) for letter in "etaoinshr"] for text in texts], dtype=np.float32)
        vectors: Matrix = counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1)
        return vectors
