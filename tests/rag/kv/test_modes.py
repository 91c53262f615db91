"""Names of cache modes."""

from __future__ import annotations

import pytest

from rag.errors import InvalidConfig
from rag.kv.modes import Mode, parse_mode


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("full", Mode(kind="full")),
        ("prefix", Mode(kind="prefix")),
        ("independent", Mode(kind="independent")),
        ("ape", Mode(kind="ape", temperature=0.9, scale=0.9)),
        ("ape-1-1", Mode(kind="ape", temperature=1.0, scale=1.0)),
        ("ape-0.9-1.0", Mode(kind="ape", temperature=0.9, scale=1.0)),
        ("link", Mode(kind="link", k=16)),
        ("link-0", Mode(kind="link", k=0)),
        ("blend", Mode(kind="blend", share=0.15)),
        ("blend-0.5", Mode(kind="blend", share=0.5)),
        ("blend-0.5-values", Mode(kind="blend", share=0.5, values_only=True)),
        ("blend-values", Mode(kind="blend", values_only=True)),
        ("craft", Mode(kind="craft", alpha=1.0)),
        (" Craft-0.3 ", Mode(kind="craft", alpha=0.3)),
    ],
)
def test_a_text_names_a_mode_and_a_mode_its_text(text: str, mode: Mode) -> None:
    assert parse_mode(text) == mode
    assert parse_mode(str(mode)) == mode


@pytest.mark.parametrize(
    "text", ["", "fuse", "link-", "link-1.5", "link--1", "blend-x", "ape-1", "full-1", "craft-1-2"]
)
def test_another_text_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"link-16 or blend-0\.15"):
        parse_mode(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("blend-1.01", "share = 1.01"),
        ("craft-2.5", "alpha = 2.5"),
        ("ape-0-1", "temperature = 0.0"),
        ("ape-1-11", "scale = 11.0"),
        ("link-1000001", "k = 1000001"),
    ],
)
def test_a_number_out_of_range_is_named(text: str, says: str) -> None:
    with pytest.raises(InvalidConfig, match=says):
        parse_mode(text)


def test_only_full_and_prefix_are_exact_whatever_the_chunks_are() -> None:
    modes = ["full", "prefix", "independent", "ape-1-1", "link-1000000", "blend-1", "craft-2"]
    assert [mode for mode in modes if parse_mode(mode).exact] == ["full", "prefix"]
