"""Examples are the product's own prompts; the tokenizer is loss-free."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.embedded_model.examples import LABEL, Example, _Written
from rag.embedded_model.lists import PassageList
from rag.embedded_model.schedule import PHASES, draw, examples_of, phase
from rag.embedded_model.tokenizer import BEGIN, CONTROLS, END, PAD
from rag.reranking import prompts
from rag.reranking.icr import LATE, IcrTemplate, document_ids, icr_prompt
from rag.runtime.families import family_of
from rag.runtime.reader import Reader
from tests.rag.embedded_model.worlds import prompt_tokenizer, source, writer

FOUND = PassageList("When was it built?", ("Harbour\nBuilt in 1871.", "Ferry\nIt sails.", "Cheese."), (1,), "It sails.")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_text_comes_back_from_its_tokens(text: str) -> None:
    tokenizer = prompt_tokenizer()
    clean = text.encode(errors="replace").decode()
    assert tokenizer.decode(tokenizer.encode(clean)) == clean


def test_controls_are_the_first_ids_and_text_never_becomes_one() -> None:
    tokenizer = prompt_tokenizer()
    assert tokenizer.start()[:1] == [0]
    assert tokenizer.control_ids == {0, 1, 2}
    assert not tokenizer.control_ids & set(tokenizer.encode(f"{BEGIN} text {END}{PAD}"))


def test_the_family_is_the_embedded_models() -> None:
    assert family_of("llama", CONTROLS).name == "embedded"
    assert family_of("llama", ()).name == "plain"


def test_a_label_is_one_token_and_all_labels_differ() -> None:
    reader = cast(Reader, _Written(prompt_tokenizer(), family_of("llama", CONTROLS)))
    assert len(set(prompts.setwise(reader, "q", 23).labels)) == 23
    assert len(set(prompts.listwise(reader, "q", 20).labels)) == 20
    assert len(set(prompts.pairwise(reader, "q").labels)) == 2
    assert len(set(prompts.yes_no(reader, "q").labels)) == 2
    for place in range(1, 101):
        assert len(prompt_tokenizer().encode(f" [{place}]")) == 3


def test_an_attention_example_begins_with_the_products_prompt() -> None:
    tokenizer, strings = prompt_tokenizer(), family_of("llama", CONTROLS).attention
    lates = set()
    for seed in range(20):
        example = writer().attention(FOUND, Random(seed), 32)
        for late in LATE.values():
            template = IcrTemplate(strings.prefix, strings.separator, strings.suffix, late)
            documents = (
                [tokenizer.encode(text)[:32] for text in FOUND.texts]
                if example.blocks
                else [document_ids(tokenizer, text, i, 32) for i, text in enumerate(FOUND.texts, start=1)]
            )
            prompt = icr_prompt(tokenizer, template, FOUND.query, documents, range(3))
            whole = prompt.prefix.ids + prompt.query.ids
            if example.ids[: example.rows[0][1]] == whole:
                lates.add(late)
                assert example.spans == prompt.spans
                assert example.ids[slice(*example.rows[0])] == prompt.query.ids
                break
        else:
            raise AssertionError("no prompt of the product")
    assert lates == set(LATE.values())


def test_the_answer_is_the_place_and_a_quote() -> None:
    made = (writer().attention(FOUND, Random(i), 32) for i in range(9))
    example = next(each for each in made if not each.blocks)
    decode = prompt_tokenizer().decode
    assert decode(example.ids[example.rows[0][1] :]) == f" [2] It sails.{END}"
    (label,) = [target for target in example.targets if target[2] == LABEL]
    assert decode([label[1]]) == "2"


def test_other_queries_follow_with_their_places() -> None:
    found = replace(FOUND, more=(("cheese", 2), ("harbour", 0)))
    made = (writer().attention(found, Random(i), 32) for i in range(9))
    example = next(each for each in made if len(each.rows) == 3 and not each.blocks)
    decode = prompt_tokenizer().decode
    _, (start, end), (last, answer) = example.rows
    assert "Query: cheese\n" in decode(example.ids[start:end])
    assert decode(example.ids[end:last]) == " [3]"
    assert decode(example.ids[answer:]) == " [1]"
    assert [decode([token]) for _, token, weight in example.targets if weight == LABEL] == ["2", "3", "1"]


def test_chunks_in_blocks_have_no_numbers_and_the_answer_is_a_quote() -> None:
    made = (writer().attention(FOUND, Random(i), 32) for i in range(60))
    example = next(each for each in made if each.blocks)
    decode = prompt_tokenizer().decode
    assert [decode(example.ids[start:end]) for start, end in example.spans] == list(FOUND.texts)
    assert decode(example.ids[example.rows[0][1] :]) == f" It sails.{END}"


def test_targets_are_the_tokens_that_follow() -> None:
    random = Random(2)
    for now in PHASES:
        assert sum(now.mixture.values()) == pytest.approx(1.0)
        for example in (each for _ in range(20) for each in draw(source(), writer(), random, now)):
            for at, token, weight in example.targets:
                assert weight > 0
                assert at < len(example.ids)
                if at + 1 < len(example.ids):
                    assert example.ids[at + 1] == token


def test_labels_of_both_orders() -> None:
    first, second = writer().pairwise(FOUND, Random(0), 32)
    reader = cast(Reader, _Written(prompt_tokenizer(), family_of("llama", CONTROLS)))
    labels = prompts.pairwise(reader, FOUND.query).labels
    assert [each.targets[0][1] for each in (first, second)] == list(labels)
    yes, no = writer().yes_no(FOUND, Random(0), 32)
    assert [each.targets[0][1] for each in (yes, no)] == list(prompts.yes_no(reader, FOUND.query).labels)


def test_a_steps_examples_depend_on_seed_and_step_alone() -> None:
    def made(seed: int, step: int) -> list[Example]:
        return examples_of(source(), writer(), seed=seed, step=step, steps=100, tokens=500)

    assert made(1, 5) == made(1, 5)
    assert made(1, 5) != made(1, 6)
    assert made(1, 5) != made(2, 5)


def test_the_curriculum() -> None:
    assert [phase(step, 20) for step in (0, 2, 3, 4, 5, 13, 14, 19)] == [PHASES[i] for i in (0, 0, 0, 1, 1, 2, 2, 3)]
    kinds = {"attention", "listwise", "pairwise", "yes-no", "setwise", "likelihood", "plain"}
    assert set(PHASES[-1].mixture) == kinds
