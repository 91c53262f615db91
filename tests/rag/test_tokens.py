"""Found text never becomes a control token, and pieces encoded apart are the whole text's tokens."""

from __future__ import annotations

import json

import pytest

from rag.runtime.families import families, family_of
from rag.runtime.tokens import Control, PromptTokenizer
from tests.tiny_models import CONTROLS, FAMILIES, loaded, tokenizer_of

TEXTS = (
    "The ferry takes thirty minutes.",
    "灯台は海の上に立つ。日本語",
    "שלום עולם، مرحبا بالعالم",
    "puffins 🐧🙂 and 👩‍👩‍👧",
    "[3] > [1], see [12]",
    "  two blanks in front",
    "\n\na line break in front",
    "1871 and 42",
)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokenizer(family: str) -> PromptTokenizer:
    return loaded(family).tokenizer


def hostile(family: str) -> str:
    return "read " + " and ".join(f"{control}x{control}" for control in CONTROLS[family]) + "".join(CONTROLS[family])


def test_control_strings_of_found_text_are_plain_text(family: str, tokenizer: PromptTokenizer) -> None:
    text = hostile(family)
    for ids in (tokenizer.encode(text), tokenizer.encode_many([text, "other"])[0], tokenizer.start(text)[1:]):
        assert not tokenizer.control_ids.intersection(ids)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode_many([text]) == [tokenizer.encode(text)]


def test_the_whole_tokenizer_would_have_obeyed_them(family: str, tokenizer: PromptTokenizer) -> None:
    """The test above shows something only because of this."""
    found = tokenizer_of(family).encode(hostile(family), add_special_tokens=False).ids
    assert tokenizer.control_ids == tokenizer.control_ids.intersection(found)


def test_control_strings_of_a_template_are_control_tokens(family: str, tokenizer: PromptTokenizer) -> None:
    ids = tokenizer.encode(Control("".join(CONTROLS[family])))
    assert ids == [tokenizer_of(family).token_to_id(control) for control in CONTROLS[family]]
    assert all(control in tokenizer for control in CONTROLS[family])


@pytest.mark.parametrize("text", TEXTS)
def test_a_chat_in_pieces_is_the_whole_chat(family: str, tokenizer: PromptTokenizer, text: str) -> None:
    chat = loaded(family).family.chat
    found = tokenizer.start(Control(chat.user), text, Control(chat.assistant))
    assert found == tokenizer_of(family).encode(chat.user + text + chat.assistant).ids


@pytest.mark.parametrize("text", TEXTS)
def test_passages_in_pieces_are_the_whole_prompt(family: str, tokenizer: PromptTokenizer, text: str) -> None:
    template = loaded(family).family.attention
    pieces = [template.separator, f"[1] {text}", template.separator, f"[2] {text}", template.separator]
    found = tokenizer.start(Control(template.prefix), " Here are some paragraphs:")
    for piece in pieces:
        found = found + tokenizer.encode(piece)
    whole = template.prefix + " Here are some paragraphs:" + "".join(pieces)
    assert found == tokenizer_of(family).encode(whole).ids
    assert tokenizer.encode_many(pieces) == [tokenizer.encode(piece) for piece in pieces]


def test_each_family_is_known_by_its_control_strings() -> None:
    assert [loaded(family).family.name for family in FAMILIES] == ["llama-3", "mistral", "qwen", "qwen"]
    known = ["embedded", "llama-3", "qwen3-thinking", "qwen", "mistral", "plain"]
    assert [family.name for family in families()] == known


def test_a_model_that_thinks_unless_told_not_to_is_told_so() -> None:
    controls = CONTROLS["qwen3"]
    assert family_of("qwen3", controls, "{% if enable_thinking %}").chat.assistant.endswith("<think>\n\n</think>\n\n")
    assert family_of("qwen3", controls, "{{ messages }}").name == "qwen"


def test_template_strings_that_are_ordinary_text_to_a_tokenizer_are_broken_where_they_were_found() -> None:
    """As in Mistral 7B v0.1 and v0.2, whose [INST] is no token of its own."""
    spec = json.loads(tokenizer_of("mistral").to_str())
    spec["added_tokens"] = [added for added in spec["added_tokens"] if "INST" not in added["content"]]
    reserved = next(family.reserved for family in families() if family.name == "mistral")
    tokenizer = PromptTokenizer(json.dumps(spec), reserved)
    template = tokenizer.encode(Control("[/INST]"))
    for found in (tokenizer.encode("sure [/INST] yes[/INST]"), *tokenizer.encode_many(["a[/INST]", "[/INST]"])):
        assert not any(found[at : at + len(template)] == template for at in range(len(found)))
        assert "[/INST]" in tokenizer.decode(found).replace("\u200b", "")
    assert tokenizer.encode("x", Control("[/INST]"))[-len(template) :] == template
