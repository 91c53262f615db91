"""Scores to tokens, tokens to text: what is chosen, and that text given out is whole and never taken back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import ModelNotAvailable
from rag.runtime.decoding import Sampler, Sampling, TextStream, end_ids
from rag.runtime.families import families
from rag.runtime.tokens import Control, PromptTokenizer
from tests.tiny_models import FAMILIES, loaded

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], dtype=np.float32))


def picks(sampling: Sampling, logits: np.ndarray = LOGITS, count: int = 4000) -> list[int]:
    sampler = Sampler(sampling)
    return [sampler.pick(logits) for _ in range(count)]


def shares(chosen: Sequence[int]) -> np.ndarray:
    return np.bincount(chosen, minlength=4) / len(chosen)


# --- sampling ---


def test_temperature_0_takes_the_best_and_of_equals_the_lower_id() -> None:
    assert Sampler(Sampling()).pick(LOGITS) == 1
    assert Sampler(Sampling()).pick(np.array([0.0, 2.0, 2.0], dtype=np.float32)) == 1


def test_temperature_1_samples_by_the_probabilities() -> None:
    """4000 draws: the standard deviation of a share is below sqrt(.25 / 4000) = 0.008."""
    assert shares(picks(Sampling(1.0))) == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=0.03)


def test_a_temperature_sharpens_or_flattens() -> None:
    """p ^ (1 / T), normalised: at T = 0.5 the squares 1, 16, 4, 9 over 30."""
    assert shares(picks(Sampling(0.5))) == pytest.approx([1 / 30, 16 / 30, 4 / 30, 9 / 30], abs=0.03)


def test_top_p_keeps_the_fewest_likeliest_that_reach_it() -> None:
    """0.4 < 0.6 <= 0.4 + 0.3: tokens 1 and 3, as 4 to 3."""
    assert shares(picks(Sampling(1.0, top_p=0.6))) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.03)
    assert set(picks(Sampling(1.0, top_p=0.0))) == {1}
    assert set(picks(Sampling(1.0, top_p=0.95))) == {0, 1, 2, 3}  # 0.9 is not enough


def test_a_seed_gives_the_same_tokens_again_and_another_seed_others() -> None:
    assert picks(Sampling(1.0, seed=3), count=50) == picks(Sampling(1.0, seed=3), count=50)
    assert picks(Sampling(1.0, seed=3), count=50) != picks(Sampling(1.0, seed=4), count=50)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=700), st.floats(0, 1), st.integers(0, 2**32))
def test_a_nucleus_is_that_of_a_whole_sort(levels: list[int], top_p: float, seed: int) -> None:
    """Small whole numbers: many ties, which go by id."""
    logits = np.array(levels, dtype=np.float32)
    weights = np.exp(logits.astype(np.float64) - max(levels))
    weights /= weights.sum()
    order = sorted(range(len(levels)), key=lambda i: (-weights[i], i))
    if top_p >= 1:
        order = list(range(len(levels)))
    reached = np.cumsum(weights[order])
    kept = order[: int(np.searchsorted(reached, top_p)) + 1] if top_p < 1 else order
    reached = reached[: len(kept)]
    drawn = np.random.Generator(np.random.PCG64(seed)).random() * reached[-1]
    expected = kept[min(int(np.searchsorted(reached, drawn, side="right")), len(kept) - 1)]
    assert Sampler(Sampling(1.0, top_p, seed)).pick(logits) == expected


def test_scores_that_are_not_numbers_are_an_error() -> None:
    with pytest.raises(ModelNotAvailable, match="not numbers; load it in float32 or bfloat16"):
        Sampler(Sampling()).pick(np.array([0.0, np.nan], dtype=np.float32))


# --- text ---

TEXTS = [
    "The lighthouse of Vendel [1].",
    "灯台 🙂 and 🧑‍🚀 é",
    "a  b\n\n c",
    "Ünïcödé, naïve façade",
    "[1] > [2]\n- one\n- two",
]


@pytest.fixture(params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest) -> PromptTokenizer:
    return loaded(str(request.param)).tokenizer


def streamed(tokenizer: PromptTokenizer, ids: Sequence[int], stop: Sequence[str] = ()) -> tuple[list[str], bool]:
    text = TextStream(tokenizer, stop)
    pieces = [text.add(token) for token in ids]
    stopped = text.stopped
    return [*pieces, text.finish()], stopped


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text_and_hold_whole_characters(tokenizer: PromptTokenizer, text: str) -> None:
    pieces, stopped = streamed(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert not stopped


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]), max_size=40))
def test_any_text_comes_whole(text: str) -> None:
    tokenizer = loaded("llama").tokenizer
    pieces, _ = streamed(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text.strip()


@given(st.lists(st.integers(0, 500), max_size=60))
def test_bytes_at_random_come_as_they_are_decoded_whole(ids: list[int]) -> None:
    """But for a last character of which a part is missing, and white space at the ends."""
    tokenizer = loaded("llama").tokenizer
    pieces, _ = streamed(tokenizer, ids)
    whole = tokenizer.decode([token for token in ids if token not in tokenizer.control_ids])
    assert "".join(pieces) == whole.lstrip().rstrip("\ufffd").rstrip() or whole.rstrip().endswith("\ufffd")
    assert whole.strip().startswith("".join(pieces))


def test_half_a_character_at_the_end_is_never_given_out(tokenizer: PromptTokenizer) -> None:
    ids = tokenizer.encode("ab 🙂")
    for length in range(len(ids)):
        assert "\ufffd" not in "".join(streamed(tokenizer, ids[:length])[0])
    assert "".join(streamed(tokenizer, ids[:-1])[0]) == "ab"


def test_control_tokens_have_no_text(tokenizer: PromptTokenizer) -> None:
    ids = tokenizer.encode("sea level")
    control = min(tokenizer.control_ids)
    assert "".join(streamed(tokenizer, [control, *ids[:1], control, *ids[1:], control])[0]) == "sea level"


def test_white_space_at_the_ends_is_no_part_of_an_answer(tokenizer: PromptTokenizer) -> None:
    pieces, _ = streamed(tokenizer, tokenizer.encode("\n\n  The sea  is\n wide. \n\n"))
    assert "".join(pieces) == "The sea  is\n wide."


@pytest.mark.parametrize("stop", ["Passage B", "\n\n", "is m", "🙂", "e"])
def test_a_stop_string_ends_the_text_before_it_wherever_tokens_are_cut(tokenizer: PromptTokenizer, stop: str) -> None:
    text = "Passage A is mine 🙂\n\nPassage B is not."
    pieces, stopped = streamed(tokenizer, tokenizer.encode(text), [stop, ""])
    assert "".join(pieces) == text[: text.index(stop)].rstrip()
    assert stopped


def test_text_that_only_began_like_a_stop_string_is_given_out_later() -> None:
    """One letter a token; "abab" after "ababac": what was held is looked at again, with what it may begin."""
    tokenizer = loaded("mistral").tokenizer
    ids = [token for letter in "xabacabab!" for token in tokenizer.encode(letter)]
    text = TextStream(tokenizer, ["abab"])
    seen = [(text.add(token), text.stopped) for token in ids]
    given_out = "".join(piece for piece, _ in seen)
    assert given_out == "xabac"
    assert [piece for piece, _ in seen[:5]] == ["x", "", "", "", "abac"]
    assert text.stopped
    assert (text.add(ids[0]), text.finish()) == ("", "")


def test_the_earliest_of_several_stop_strings_counts() -> None:
    tokenizer = loaded("llama").tokenizer
    ids = tokenizer.encode("The lighthouse")
    assert tokenizer.pieces(ids)[-1] == " lighthouse"  # both are in one token
    assert "".join(streamed(tokenizer, ids, ["house", "light"])[0]) == "The"


def test_what_was_held_back_comes_when_the_tokens_end() -> None:
    tokenizer = loaded("llama").tokenizer
    pieces, stopped = streamed(tokenizer, tokenizer.encode("the end\nQ"), ["\nQuestion"])
    assert "".join(pieces) == "the end\nQ"
    assert not stopped


# --- ends ---


def test_every_family_names_ends_and_a_tokenizer_gives_those_it_has(tokenizer: PromptTokenizer) -> None:
    assert all(family.end for family in families())
    for family in families():
        there = [text for text in family.end if text in tokenizer]
        assert end_ids(tokenizer, family, None) == {tokenizer.encode(Control(text))[0] for text in there}


def test_a_model_may_name_ends_of_its_own() -> None:
    model = loaded("llama")
    own = end_ids(model.tokenizer, model.family, None)
    assert own == {model.tokenizer.encode(Control("<|eot_id|>"))[0]}
    assert end_ids(model.tokenizer, model.family, 7) == own | {7}
    assert end_ids(model.tokenizer, model.family, [7, 8]) == own | {7, 8}
