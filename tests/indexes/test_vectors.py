"""Dense search equals brute force, ties at the cut come together, and no deleted row is ever returned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes.changes import write_segment
from indexes.documents import Rows, Segment
from indexes.encoding import Matrix
from indexes.errors import CollectionDamaged, InvalidInput
from indexes.vectors import (
    VectorIndex,
    VectorSettings,
    build_ann,
    read_ann,
    read_segment,
    segment_path,
    write_ann,
)

D = 16
Part = tuple[Rows, Matrix]


def unit(n: int, seed: int = 0, d: int = D) -> Matrix:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    normed: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normed


def part(first: int, vectors: Matrix) -> Part:
    return np.arange(first, first + len(vectors), dtype=np.int64), vectors


def brute(
    parts: list[Part], dead: set[int], query: Matrix, k: int, allowed: set[int] | None
) -> list[tuple[int, float]]:
    """The k best and all that tie with the k-th, from numpy in float64."""
    pool = [
        (int(row), float(vector.astype(float) @ query.astype(float)))
        for rows, vectors in parts
        for row, vector in zip(rows, vectors, strict=True)
        if row not in dead and (allowed is None or row in allowed)
    ]
    pool.sort(key=lambda pair: (-pair[1], pair[0]))
    return [pair for pair in pool if k > 0 and pair[1] >= pool[min(k, len(pool)) - 1][1] - 1e-12]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Part], set[int], Matrix, int, set[int] | None]:
    """Vectors of few small whole numbers, so that sums are exact and ties are common."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    cell = st.integers(-1, 2).map(float)
    first, parts = 1, []
    for size in sizes:
        matrix = np.array(draw(st.lists(st.lists(cell, min_size=4, max_size=4), min_size=size, max_size=size)), "<f4")
        parts.append(part(first, matrix))
        first += size + draw(st.integers(0, 2))
    rows = st.sets(st.integers(1, first))
    query = np.array(draw(st.lists(cell, min_size=4, max_size=4)), dtype=np.float32)
    return parts, draw(rows), query, draw(st.integers(0, 60)), draw(st.none() | rows)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_exact_search_equals_brute_force(case: tuple[list[Part], set[int], Matrix, int, set[int] | None]) -> None:
    parts, dead, query, k, allowed = case
    index = VectorIndex(4, parts, dead)
    chosen = None if allowed is None else np.array(sorted(allowed), dtype=np.int64)
    rows, scores = index.search(query, k, chosen)
    expected = brute(parts, dead, query, k, allowed)
    assert sorted(zip(rows, scores, strict=True)) == sorted(expected)
    assert scores == sorted(scores, reverse=True)


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_a_view_after_changes_equals_one_made_at_once(
    case: tuple[list[Part], set[int], Matrix, int, set[int] | None], data: st.DataObject
) -> None:
    parts, dead, query, k, allowed = case
    chosen = None if allowed is None else np.array(sorted(allowed), dtype=np.int64)
    earlier = data.draw(st.sets(st.sampled_from(sorted(dead))) if dead else st.just(set()))
    index = VectorIndex(4, parts[:1], earlier)
    for number in range(1, len(parts)):
        index = index.after([parts[number]], dead if number == len(parts) - 1 else earlier)
    index = index.after([], dead)
    at_once = VectorIndex(4, parts, dead)
    one, other = index.search(query, k, chosen), at_once.search(query, k, chosen)
    assert sorted(zip(*one, strict=True)) == sorted(zip(*other, strict=True))
    assert len(index) == len(at_once)
    rows = np.arange(0, 70, dtype=np.int64)
    assert np.array_equal(index.lookup(rows), at_once.lookup(rows), equal_nan=True)


def test_all_that_tie_with_the_last_hit_are_returned() -> None:
    vectors = unit(40)
    vectors[[3, 17, 18, 39]] = vectors[5]
    rows, scores = VectorIndex(D, [part(1, vectors)], []).search(vectors[5], 2)
    assert sorted(rows) == [4, 6, 18, 19, 40]
    assert len(set(scores)) == 1


def test_lookup_gives_stored_vectors_and_nan_for_rows_that_are_not_there() -> None:
    first, later = unit(5), unit(3, seed=1)
    index = VectorIndex(D, [part(1, first), part(10, later)], [2])
    found = index.lookup(np.array([12, 1, 2, 7, 10, 99, 0]))
    assert np.array_equal(found[[0, 1, 4]], [later[2], first[0], later[0]])
    assert np.isnan(found[[2, 3, 5, 6]]).all()
    assert np.isnan(VectorIndex(D, [], []).lookup(np.array([1]))).all()


def test_an_index_without_living_rows_finds_nothing() -> None:
    assert VectorIndex(D, [], []).search(unit(1)[0], 3) == ([], [])
    assert VectorIndex(D, [part(1, unit(2))], [1, 2]).search(unit(1)[0], 3) == ([], [])


# --- approximate ---

N = 3000
HNSW = VectorSettings(kind="hnsw", hnsw_ef_search=64)
VECTORS = unit(N, seed=7)
LATER = unit(200, seed=8)
DEAD = set(range(5, N + 200, 11))


@pytest.fixture(scope="module")
def hnsw() -> VectorIndex:
    graph = build_ann(VECTORS, "hnsw", HNSW)
    return VectorIndex(D, [part(1, VECTORS)], [], graph, HNSW).after([part(N + 1, LATER)], DEAD)


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.2, 0.11, 0.05, 0.002])
def test_the_graph_finds_nearly_all_and_never_a_dead_or_forbidden_row(hnsw: VectorIndex, share: float, k: int) -> None:
    allowed = set(np.random.default_rng(1).permutation(np.arange(1, N + 201))[: int(share * (N + 200))].tolist())
    hits = wanted = 0
    for query in unit(20, seed=3):
        rows, _ = hnsw.search(query, k, None if share == 1.0 else np.array(sorted(allowed)))
        expected = brute([part(1, VECTORS), part(N + 1, LATER)], DEAD, query, k, allowed)
        assert not DEAD & set(rows)
        assert set(rows) <= allowed
        assert len(rows) == len(expected), "k where k exist"
        hits += len({row for row, _ in expected} & set(rows))
        wanted += len(expected)
    assert hits / wanted >= 0.95


def test_the_graph_scores_bit_for_bit_as_exact_search(hnsw: VectorIndex) -> None:
    exact = VectorIndex(D, [part(1, VECTORS), part(N + 1, LATER)], DEAD)
    query = unit(1, seed=4)[0]
    expected = dict(zip(*exact.search(query, N), strict=True))
    for allowed in (None, np.arange(1, 100), np.arange(1, N)):
        rows, scores = hnsw.search(query, 30, allowed)
        assert scores == [expected[row] for row in rows]


def test_many_small_changes_leave_few_parts_and_the_same_results() -> None:
    graph = build_ann(VECTORS, "hnsw", HNSW)
    index = VectorIndex(D, [part(1, VECTORS)], [], graph, HNSW)
    for i in range(len(LATER)):
        index = index.after([part(N + 1 + i, LATER[i : i + 1])], DEAD)
    assert len(index._segments) <= 33
    for query in LATER[:5]:
        expected = [pair[0] for pair in brute([part(N + 1, LATER)], DEAD, query, 5, None)]
        assert index.search(query, 5, np.arange(N + 1, N + 201))[0] == expected
    assert np.array_equal(index.lookup(np.arange(1, 4)), VECTORS[:3])


@pytest.mark.parametrize("mapped", [False, True])
def test_ivfpq_builds_is_read_back_and_finds_most(tmp_path: Path, mapped: bool) -> None:
    chosen = VectorSettings(kind="ivfpq", pq_bytes=8, ivf_lists=20, ivf_probes=10)
    write_ann(build_ann(VECTORS, "ivfpq", chosen), tmp_path / "ann.faiss")
    index = VectorIndex(D, [part(1, VECTORS)], DEAD, read_ann(tmp_path / "ann.faiss", mapped=mapped), chosen)
    for allowed in (None, np.arange(1, N, 2), np.arange(1, 600)):
        hits = 0
        for query in unit(20, seed=3):
            rows, _ = index.search(query, 10, allowed)
            permitted = None if allowed is None else set(allowed.tolist())
            hits += len({row for row, _ in brute([part(1, VECTORS)], DEAD, query, 10, permitted)} & set(rows))
            assert len(rows) == 10
            assert not DEAD & set(rows)
        assert hits >= 0.9 * 200
    everything = index.search(unit(1, seed=5)[0], N)
    assert len(everything[0]) == N - sum(row <= N for row in DEAD)


def test_ivfpq_of_too_little_or_an_odd_dimension_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 256 chunks"):
        build_ann(unit(100), "ivfpq", VectorSettings(kind="ivfpq", pq_bytes=8))
    with pytest.raises(InvalidInput, match="does not divide"):
        build_ann(unit(300), "ivfpq", VectorSettings(kind="ivfpq", pq_bytes=5))


def test_auto_is_exact_up_to_its_limit_and_a_graph_beyond() -> None:
    assert VectorSettings(exact_up_to=10).resolve(10) == "exact"
    assert VectorSettings(exact_up_to=10).resolve(11) == "hnsw"
    assert VectorSettings(kind="ivfpq").resolve(1) == "ivfpq"


# --- files ---


@pytest.fixture
def stored(tmp_path: Path) -> Segment:
    segment = write_segment(tmp_path, 4, unit(6))
    assert segment is not None
    return segment


@pytest.mark.parametrize("mapped", [False, True])
def test_a_segment_is_read_as_it_was_written(tmp_path: Path, stored: Segment, mapped: bool) -> None:
    assert np.array_equal(read_segment(tmp_path, stored, D, verify=True, mapped=mapped), unit(6))


@pytest.mark.parametrize("damage", ["missing", "short", "long", "altered", "no file"])
def test_a_damaged_segment_is_refused(tmp_path: Path, stored: Segment, damage: str) -> None:
    path = segment_path(tmp_path, stored.first, stored.length)
    content = path.read_bytes()
    path.unlink()
    if damage == "no file":
        path.mkdir()
    elif damage != "missing":
        altered = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes({"short": content[:-1], "long": content + b"\0", "altered": altered}[damage])
    with pytest.raises(CollectionDamaged, match="build or import the collection again"):
        read_segment(tmp_path, stored, D, verify=True)


def test_no_vectors_make_no_segment(tmp_path: Path) -> None:
    assert write_segment(tmp_path, 1, unit(0)) is None
    assert not list(tmp_path.iterdir())


def test_an_unreadable_approximate_index_is_damage(tmp_path: Path) -> None:
    write_ann(build_ann(unit(50), "hnsw", HNSW), tmp_path / "ann")
    (tmp_path / "ann").write_bytes((tmp_path / "ann").read_bytes()[:-1000])
    with pytest.raises(CollectionDamaged):
        read_ann(tmp_path / "ann", mapped=False)
