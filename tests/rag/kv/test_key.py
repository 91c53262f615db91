"""Names: equal for equal tokens and circumstances only."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.kv.key import Fingerprint, canonical, chunk_key, chunk_prefix, token_bytes, token_hash

IDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20)
PLAIN = Fingerprint(weights="w")


def test_tokens_are_little_endian_words() -> None:
    assert token_bytes([1, 258]) == bytes([1, 0, 0, 0]) + bytes([2, 1, 0, 0])


def test_a_name_is_the_tokens_the_circumstances_and_the_variant() -> None:
    key = chunk_key([1, 2], PLAIN, "b-1")
    assert key == f"kv1:{{{token_hash([1, 2])}}}:{PLAIN.digest}:b-1"
    assert (len(token_hash([1, 2])), len(PLAIN.digest)) == (128 // 4, 64 // 4)
    assert key.startswith(chunk_prefix([1, 2]))
    assert chunk_key([1, 2], PLAIN.digest) == chunk_key([1, 2], PLAIN, "0")


@given(IDS, IDS)
def test_other_tokens_have_another_name(one: list[int], other: list[int]) -> None:
    assert (chunk_key(one, PLAIN) == chunk_key(other, PLAIN)) == (one == other)


def test_names_stay_what_they_are_from_release_to_release() -> None:
    assert token_hash([1, 2, 3]) == "b30a3c159d7e8193559a42a84f1fcae1"
    assert Fingerprint(weights="w", tenant="t").digest == "d2eae132680792ef"


@pytest.mark.parametrize("field", [field.name for field in fields(Fingerprint)])
def test_every_circumstance_changes_the_name(field: str) -> None:
    change: dict[str, Any] = {field: 99 if field == "version" else "other"}
    changed = replace(PLAIN, **change)
    assert changed.digest != PLAIN.digest


def test_parts_do_not_run_into_each_other() -> None:
    assert Fingerprint(weights="ab", config="c").digest != Fingerprint(weights="a", config="bc").digest


def test_a_configuration_has_one_text_in_any_order() -> None:
    assert canonical({"b": {"y": 1, "x": 2.5}, "a": [1]}) == canonical({"a": [1], "b": {"x": 2.5, "y": 1}})


@pytest.mark.parametrize("ids", [[-1], [2**32]])
def test_ids_outside_of_32_bits_are_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="between 0 and 2"):
        token_hash(ids)


def test_a_chunk_without_tokens_and_an_odd_variant_are_refused() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        chunk_key([], PLAIN)
    for variant in ("", "a:b", "a/b", "x" * 33, "é", "0\n"):
        with pytest.raises(ValueError, match="variant"):
            chunk_key([1], PLAIN, variant)
