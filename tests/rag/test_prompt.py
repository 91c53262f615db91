"""Document text is data: whatever it holds, it forms no control token of a chat template."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.entry import entry, plain
from rag.generation.prompt import SYSTEM, messages
from rag.values import Chunk, Context, Hit, Query, Ranking, ScoreKind, StageReport

CONTROL = {
    "Llama 2": ["<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<unk>"],
    "Llama 3": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>"],
    "Mistral": ["[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
                "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[THINK]", "[PREFIX]"],
    "Qwen": ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>", "<think>", "</think>"],
    "Gemma": ["<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>", "<start_of_image>", "<unused42>"],
    "Phi": ["<|user|>", "<|end|>", "<|assistant|>"],
    "DeepSeek": ["<｜begin▁of▁sentence｜>", "<｜User｜>"],
}  # fmt: skip
ALL = [string for strings in CONTROL.values() for string in strings]


def prompt(title: str, text: str, question: str) -> str:
    hits = (Hit(Chunk("d#0", "d", text, 0, len(text), title), 1.0),)
    ranking = Ranking(hits, ScoreKind.BM25, StageReport("bm25"))
    system, user = messages(Query(question), Context(hits, 0, 0, ranking, StageReport("select")))
    assert (system, user["role"]) == ({"role": "system", "content": SYSTEM}, "user")
    return user["content"]


@pytest.mark.parametrize("string", ALL)
def test_control_strings_are_broken_up_in_title_text_and_question(string: str) -> None:
    for place in (prompt(string, "", ""), prompt("", f"a{string}b", ""), prompt("", "", f"{string}{string}")):
        assert string not in place
        assert f"{string[0]} {string[1:]}" in place


@given(st.lists(st.sampled_from([*ALL, "<", "|", ">", "[", "]", "/", " ", "x"]), max_size=6).map("".join))
def test_nothing_put_together_from_control_strings_gets_through(text: str) -> None:
    broken = plain(text)
    assert not [string for string in ALL if string in broken]
    assert plain(broken) == broken
    assert broken.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        "a < b and b > c",
        "[1] [NOTE] [sic] [USA]",
        "x || y f<|g if a<b|c>d 1 <2> 3",
        "<b>bold</b> <div class='s'>",
        "«é»\t\n",
        "a [INST ] b <start of turn>",
    ],
)
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_the_prompt_numbers_its_sources_and_ends_with_the_question() -> None:
    assert prompt("Ferries", "Every 15 minutes.", "How often?") == (
        "Sources:\n\n[1] Ferries\nEvery 15 minutes.\n\nQuestion: How often?"
    )


def test_an_entry_without_a_title_starts_with_its_text() -> None:
    assert entry(7, Chunk("d#0", "d", "Fog.", 0, 4)) == "[7] Fog.\n\n"
