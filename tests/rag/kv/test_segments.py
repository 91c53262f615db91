"""Values in pieces: whole, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import BadCache
from rag.kv.key import chunk_key
from rag.kv.segments import MAX_PIECES, PIECE_BYTES, is_piece, join, names, pieces_of, split
from tests.rag.kv.chunks import FINGERPRINT, value

HEAD = 32


@given(st.integers(0, 700), st.integers(HEAD + 6, 120))
def test_pieces_join_to_the_value_and_none_is_too_large(nbytes: int, piece: int) -> None:
    whole = value(1, nbytes)
    pieces = split(whole, piece)
    assert all(len(one) <= piece for one in pieces)
    assert len(pieces) == (1 if nbytes <= piece else -(-nbytes // (piece - HEAD)))
    assert pieces_of(pieces[0] if nbytes else b"") == len(pieces)
    assert bytes(join(pieces) if len(pieces) > 1 else pieces[0]) == whole


def test_pieces_fill_the_allocator_s_classes() -> None:
    assert [len(piece) for piece in split(bytes(2 * PIECE_BYTES))] == [PIECE_BYTES, PIECE_BYTES, 3 * HEAD]
    assert PIECE_BYTES == 4 * 2**20 - 64


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_piece_is_noticed(gone: int) -> None:
    pieces: list[bytes | memoryview | None] = [*split(value(1, 250), 120)]
    pieces[gone] = None
    with pytest.raises(BadCache, match="1 of 3 pieces are gone"):
        join(pieces)


def test_pieces_of_two_writings_of_one_value_never_mix() -> None:
    one, other = split(value(1, 250), 120), split(value(1, 250), 120)
    with pytest.raises(BadCache, match="do not fit"):
        join([one[0], other[1], one[2]])


@pytest.mark.parametrize("order", [(0, 2, 1), (0, 1), (0, 1, 2, 2), (1, 0, 2)])
def test_pieces_in_another_order_or_number_are_noticed(order: tuple[int, ...]) -> None:
    pieces = split(value(1, 250), 120)
    with pytest.raises(BadCache):
        join([pieces[place] for place in order])


def test_cut_and_foreign_pieces_are_noticed() -> None:
    pieces = split(value(1, 250), 120)
    for foreign in (pieces[1][:-1], pieces[1][:10], b"x" * 120, b""):
        with pytest.raises(BadCache):
            join([pieces[0], foreign, pieces[2]])
    for first in (pieces[1], b"KVSG", bytes(pieces[0][:6]) + b"\xff\xff" + bytes(pieces[0][8:])):
        with pytest.raises(BadCache):
            pieces_of(first)


def test_a_value_of_too_many_pieces_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        split(bytes(HEAD * MAX_PIECES + 1), 2 * HEAD)


def test_names_of_pieces_are_told_from_names_of_values() -> None:
    for variant in ("0", "s1"):
        key = chunk_key([1], FINGERPRINT, variant)
        assert not is_piece(key)
        assert names(key, 3) == [f"{key}:s1", f"{key}:s2"]
        assert all(map(is_piece, names(key)))
